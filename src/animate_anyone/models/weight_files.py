"""The files of a network's folder, before anything is loaded from them: which they are, what stands in their place
where somebody's download went wrong, and what wrappers put before the names of tensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError

_LOOKED_AT = 1024  # bytes of a file's beginning
_GIT_LFS = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")
# What torch.compile, sharding and checkpointing wrappers put before the names inside them, at any depth.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What data-parallel wrappers put before all of them.
_PARALLEL = re.compile(r"^(?:module\.)+")


def plain_name(name: str) -> str:
    """A tensor's name without what wrappers (``torch.compile``, data-parallel training) put before it."""
    return _PARALLEL.sub("", _WRAPPERS.sub("", name))


def check_content(file: Path) -> None:
    """See that a file is not one of those that stand in a file's place when a download went wrong.

    Raises:
        InputError: it is a pointer of git-lfs, a web page, or a line of text.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(_LOOKED_AT)
    except OSError:
        return  # whoever opens it next says so
    if start.startswith(_GIT_LFS):
        raise InputError(
            f"{file}: is a pointer of git-lfs, not the file itself; type `git lfs pull` in that repository, or "
            "download the file"
        )
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_WEB_PAGE):
        raise InputError(f"{file}: is a web page, not the file itself; download the file that the page is about")
    if file.suffix != ".json" and 0 < len(start) < _LOOKED_AT and (text := _text(start)):
        raise InputError(f"{file}: holds a line of text, not weights: {text[:200]!r}; download the file again")


def read_headers(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and number type, such as ``F32``, of every tensor in a safetensors file, by name; no values are read.

    Raises:
        InputError: it is no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {name: (tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in tensors.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: damaged, or not a safetensors file: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters; its kind, where it says nothing."""
    text = " ".join(str(error).split())
    return f"{text[:300]}…" if len(text) > 300 else text or type(error).__name__


def _text(content: bytes) -> str:
    """Content as one line, where it is text; else nothing."""
    try:
        text = " ".join(content.decode("utf-8").split())
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def read_settings(file: Path) -> dict[str, Any]:
    """A settings file of a model; :class:`InputError` where it is missing or is none."""
    check_content(file)
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: is missing; copy or download the model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read: {first_line(error)}; copy or download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no settings; copy or download the model again")
    return content


def weights_of(folder: Path) -> list[Path]:
    """The files that a network is loaded from: those that an index names, else all; their content looked at."""
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    named = [shards(index) for index in indexes]  # whichever is read, none names a file elsewhere
    found = named[0] if named else sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"{folder}: no .safetensors file there; weights in other formats are not read")
    for file in found:
        check_content(file)
    return found


def is_wrapped(folder: Path) -> bool:
    """Whether a network's files name tensors as a wrapper does (``torch.compile``), which the libraries do not know."""
    for file in weights_of(folder):
        with suppress(InputError):  # whoever loads it says so
            if any(name != plain_name(name) for name in read_headers(file)):
                return True
    return False


def shards(index: Path) -> list[Path]:
    """The files that an index of shards names, all beside it.

    Raises:
        InputError: it names none, or one that is missing or lies outside the folder.
    """
    folder, weight_map = index.parent, read_settings(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{index}: names no weights; copy or download it again")
    found = []
    for name in sorted(names):
        if name in ("", ".", "..") or re.search(r"[/\\\0:]", name):
            raise InputError(f"{index}: names {name[:200]!r}, which is no file of its folder; download the model again")
        file = folder / name
        if not file.is_file():
            raise InputError(f"{folder}: {name} is missing; {index.name} names it")
        if not any(file.resolve().is_relative_to(place) for place in _allowed(folder)):
            raise InputError(f"{file}: is a link out of its folder; put the file itself there")
        found.append(file)
    return found


def _allowed(folder: Path) -> Iterator[Path]:
    """Where files of a folder may lie: in it, or among the blobs of the hub's cache, of whose snapshots it is one."""
    yield folder.resolve()
    for above in folder.absolute().parents:
        if above.name == "snapshots":
            yield (above.parent / "blobs").resolve()
