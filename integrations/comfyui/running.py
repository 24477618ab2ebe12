"""A running node: how far it is, whether the user stopped it, and what it says when an input cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from comfy.model_management import get_torch_device, throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from PIL import Image

from animate_anyone.errors import InputError, shortened
from animate_anyone.progress import Item, Progress

_PREVIEW_SIDE = 512
_INPUTS = {
    "--no-align": "align off",
    "--size": "width and height",
    "--frames": "length and video_frame_offset",
    "--guidance": "cfg",
    "--window": "context_length",
    "--overlap": "context_overlap",
    "`animate-anyone animate`": "the node Animate",
    "`animate-anyone replace`": "the node Replace",
    "`animate-anyone pose`": "the node Save Poses",
}
"""What messages call it, who speak of the command line -> the node's input. Any other ``--name`` is called ``name``."""


class NodeProgress(Progress):
    """Moves the node's bar, shows finished frames, and ends the work where the user stopped it.

    Raises ComfyUI's own ``InterruptProcessingException`` between two items of any stage.
    """

    def __init__(self) -> None:
        self._bars: list[ProgressBar] = []

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        """As :meth:`Progress.track`. Of stages within one another the innermost moves the bar."""
        count = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
        bar = ProgressBar(count or 1)
        self._bars.append(bar)
        try:
            throw_exception_if_processing_interrupted()
            for number, item in enumerate(items, 1):
                throw_exception_if_processing_interrupted()
                preview = _preview(item) if description == "frames" else None
                if self._bars[-1] is bar:
                    bar.update_absolute(number, count, preview)
                elif preview is not None:
                    self._bars[-1].update_absolute(self._bars[-1].current, None, preview)
                yield item
        finally:
            self._bars.remove(bar)


def device_name() -> str:
    """Where ComfyUI computes: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    return str(get_torch_device())


def _preview(frame: Any) -> tuple[str, Image.Image, int]:
    return "JPEG", Image.fromarray(np.asarray(frame)), _PREVIEW_SIDE


@contextmanager
def in_words_of_nodes() -> Iterator[None]:
    """Within it an :class:`InputError` names inputs of nodes where it names options of the command line."""
    try:
        yield
    except InputError as error:
        raise InputError(of_nodes(str(error))) from None


def of_nodes(line: str) -> str:
    """A line for the user of the command line, as one for the user of a node."""
    line = re.sub(
        r"(?:or )?type --no-align", lambda found: found[0].replace("type --no-align", "switch align off"), line
    )
    line = line.replace("type `animate-anyone", "use `animate-anyone")
    for option, name in _INPUTS.items():
        line = re.sub(rf"{re.escape(option)}(?![\w-])", name, line)
    return re.sub(r"--([a-z][a-z0-9-]*)", lambda found: found[1].replace("-", "_"), line)


def report_of(lines: Iterable[str]) -> str:
    """The text of a node's output ``report``."""
    return "\n".join(map(of_nodes, lines))


def check_listed(what: str, name: str, names: Collection[str]) -> None:
    """Raise :class:`InputError` for a name that is none of ``names``: ComfyUI 0.3.64 does not look for V3 nodes."""
    if name not in names:
        raise InputError(f"there is no {what} {shortened(name)!r}; there are: {', '.join(names) or 'none'}")


def valid(check: Callable[[], Any]) -> bool | str:
    """What ``validate_inputs`` answers: true, or why not."""
    try:
        check()
    except InputError as error:
        return of_nodes(str(error))
    return True
