"""Files at addresses of their own, outside the hub: how large one is, and its bytes from a place on.

Through the session of huggingface_hub, for its proxies and certificates; nothing of a login is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from animate_anyone.errors import InputError
from animate_anyone.interop import hub
from animate_anyone.interop.catalog import WebFile
from animate_anyone.interop.source import File, Pinned


def address_of(url: str) -> str:
    """Where a file is asked for: its address."""
    return url


def look(file: WebFile, name: str) -> Pinned:
    """What is to be had of a file; the server is asked for its size where that is not known with its digest.

    Args:
        name: of the catalogue, for the command that an error names.

    Raises:
        InputError: offline, unreachable, or not there any more.
    """
    size = file.size if file.sha256 is not None else _size_of(file.url, name)
    return Pinned(file.repo, file.into, file.revision, "", (File(file.name, size, file.sha256, None, file.url),))


def append(file: File, part: Path) -> Iterator[int]:
    """Bring what ``part`` lacks of a file; as :func:`animate_anyone.interop.hub.append`."""
    assert file.url is not None
    with _network_errors(file.url):
        yield from hub.receive(
            address_of(file.url), _headers(), file, part, lambda answer: _check(answer, str(file.url)), file.url
        )


def unreachable(url: str, reason: object, name: str) -> str:
    """What to say when an address does not answer."""
    return (
        f"{urlsplit(url).netloc} cannot be reached ({reason}); when the connection is back, type: {hub.AGAIN} {name}; "
        f"or put the file of {url} into the folder yourself"
    )


def _size_of(url: str, name: str) -> int:
    from huggingface_hub import get_session

    hub.check_online(name)
    headers = {**_headers(), "Range": "bytes=0-0"}
    try:
        with (
            _network_errors(url),
            get_session().stream("GET", address_of(url), headers=headers, timeout=hub.TIMEOUT) as answer,
        ):
            _check(answer, url)
            whole = re.fullmatch(r"bytes 0-0/(\d+)", str(answer.headers.get("content-range", "")))
            size = int(whole[1]) if whole else int(answer.headers.get("content-length", 0))
    except hub.CutError as error:
        raise InputError(unreachable(url, error, name)) from None
    if size <= 1:
        raise InputError(f"{url}: its server does not say how large it is; put the file into the folder yourself")
    return size


def _headers() -> dict[str, str]:
    # The file's bytes as they are: a range of a compressed answer would be a range of something else.
    return {"User-Agent": f"animate-anyone/{version('animate-anyone')}", "Accept-Encoding": "identity"}


def _check(answer: Any, url: str) -> None:
    status = answer.status_code
    if status >= 500 or status in (408, 429):
        raise hub.CutError(f"it answers with status {status}")
    if status >= 400:
        raise InputError(f"{url}: its server refuses with status {status}; put the file into the folder yourself")


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise hub.CutError("HF_HUB_OFFLINE was set when huggingface_hub was imported") from None
    except http_error as error:
        raise hub.CutError(" ".join(str(error).split()) or type(error).__name__) from None
