"""What is asked of the hub: which files a revision holds, and bytes of a file from a place on.

Through huggingface_hub's session, so that its logins, proxies and certificates hold. Its own ``hf_hub_download``
starts a file from nothing again when a run was stopped, hence the ranges here. huggingface_hub reads its settings
when it is imported; the two that matter, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE``, are read here at each call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from animate_anyone.errors import InputError
from animate_anyone.interop.catalog import Source
from animate_anyone.interop.source import File, Pinned

TIMEOUT = 20.0  # seconds without a byte
PUBLIC = "https://huggingface.co"
AGAIN = "animate-anyone models pull"


class CutError(Exception):
    """The connection broke, or the server could not answer just now; the same may work when asked again."""


def endpoint() -> str:
    """Where the hub is asked: ``HF_ENDPOINT``, else the public one; no slash at its end."""
    given = os.environ.get("HF_ENDPOINT") or PUBLIC
    try:
        parts = urlsplit(given)
        if parts.scheme in ("https", "http") and parts.hostname and parts.port != 0:
            return given.rstrip("/")
    except ValueError:
        pass
    raise InputError(f"HF_ENDPOINT is {given}; give an address, such as {PUBLIC}")


def check_online(name: str) -> None:
    """Raise :class:`InputError` where ``HF_HUB_OFFLINE`` forbids asking; ``name`` is what cannot be pulled."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise InputError(
            f"{name}: is not here whole, and HF_HUB_OFFLINE forbids the download; type: HF_HUB_OFFLINE=0 {AGAIN} {name}"
        )


def list_files(source: Source, revision: str, name: str) -> Pinned:
    """What a revision holds of a source, with the commit that the revision is now.

    Args:
        source: whose patterns choose the files.
        revision: branch, tag or commit.
        name: of the catalogue, for the command that an error names.

    Raises:
        InputError: offline, unreachable, no such repository, revision or file, or no digest stated.
    """
    check_online(name)
    from huggingface_hub import HfApi

    base = endpoint()
    try:
        with _network_errors(source.repo, revision):
            info = HfApi(endpoint=base).model_info(source.repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except CutError as error:
        raise InputError(unreachable(base, error, name)) from None
    found = []
    for sibling in info.siblings or []:
        if not any(fnmatchcase(sibling.rfilename, pattern) for pattern in source.files):
            continue
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        size = sibling.lfs.size if sibling.lfs else sibling.size
        try:
            found.append(File(sibling.rfilename, int(size or 0), sha256, None if sha256 else sibling.blob_id))
        except ValueError as error:
            raise InputError(
                f"{source.repo}: {base} states what cannot be used: {error}; name another HF_ENDPOINT"
            ) from None
    pinned = Pinned(source.repo, source.into, revision, info.sha or "", tuple(found))
    for pattern in source.files:
        if not any(fnmatchcase(file.path, pattern) for file in found):
            raise InputError(f"{source.repo}: revision {revision} holds no {pattern}; give another --revision")
    if not pinned.commit:
        raise InputError(f"{source.repo}: {base} does not say which commit {revision} is; use another HF_ENDPOINT")
    return pinned


def append(repo: str, commit: str, file: File, part: Path) -> Iterator[int]:
    """Bring what ``part`` lacks of a file, in one request; yields the size of the part as it grows.

    Raises:
        CutError: it broke off; what came so far is in ``part``, and the next call goes on from there.
        InputError: it is not there any more, or longer than stated (``part`` is then removed).
    """
    from huggingface_hub import hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # The file's bytes as they are: a range of a compressed answer would be a range of something else.
    headers = {
        **build_hf_headers(library_name="animate-anyone", library_version=version("animate-anyone")),
        "Accept-Encoding": "identity",
    }
    url = f"{endpoint()}/{repo}/resolve/{quote(commit, safe='')}/{quote(file.path)}"
    with _network_errors(repo, commit):
        yield from receive(url, headers, file, part, hf_raise_for_status, repo)


def receive(
    url: str, headers: dict[str, str], file: File, part: Path, check: Callable[[Any], object], owner: str
) -> Iterator[int]:
    """As :func:`append`, from any address.

    Args:
        check: is shown the answer, and raises where it is none.
        owner: of the file, for an error.
    """
    from huggingface_hub import get_session

    have = part.stat().st_size if part.is_file() else 0
    if have:
        headers = {**headers, "Range": f"bytes={have}-"}
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as answer, part.open("ab") as out:
        if answer.status_code == 416 or (have and not _continues(answer, have)):
            out.truncate(0)  # the server gives all of it or nothing
            have = 0
        if answer.status_code == 416:
            raise CutError("it could not go on from where it broke")
        check(answer)
        for chunk in answer.iter_raw():  # as it comes: pieces of a set size would be lost when it breaks off
            have += out.write(chunk)
            if have > file.size:
                out.truncate(0)
                raise InputError(f"{owner}: {file.path} is longer than the {file.size} bytes stated; it was not kept")
            yield have


def _continues(answer: Any, have: int) -> bool:
    """Whether an answer starts where the part ends; errors are looked at elsewhere."""
    if answer.status_code >= 400:
        return True
    return answer.status_code == 206 and str(answer.headers.get("content-range", "")).startswith(f"bytes {have}-")


@contextmanager
def _network_errors(repo: str, revision: str) -> Iterator[None]:
    """Errors of the hub and of the connection, as one line or as :class:`CutError`."""
    from huggingface_hub import errors

    # huggingface_hub's errors derive from those of the HTTP library that it uses, whichever that is.
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    where = endpoint()
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise CutError("HF_HUB_OFFLINE was set when huggingface_hub was imported") from None
    except errors.GatedRepoError:
        raise InputError(
            f"{repo}: wants its terms accepted; open {where}/{repo}, accept them, then type: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{repo}: {where} has no such repository, or shows it only to some; type: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{repo}: has no revision {revision}; give a branch, tag or commit as --revision") from None
    except errors.EntryNotFoundError:
        raise InputError(f"{repo}: a file is no longer there at {revision}; give another --revision") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status not in (408, 429):
            raise InputError(f"{repo}: {where} refuses with status {status}; type: hf auth login") from None
        raise CutError(f"it answers with status {status}") from None
    except http_error as error:
        raise CutError(" ".join(str(error).split()) or type(error).__name__) from None


def unreachable(base: str, error: Exception, name: str) -> str:
    """What to say when an endpoint does not answer."""
    return (
        f"{base} cannot be reached ({error}); when the connection is back, or with a mirror, "
        f"type: HF_ENDPOINT=https://MIRROR {AGAIN} {name}"
    )
