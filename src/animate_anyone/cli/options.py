"""What several verbs read in the same way."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

from animate_anyone.errors import InputError, shortened
from animate_anyone.progress import SILENT, Progress, TerminalProgress


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``"768x512"`` to ``(768, 512)``, width and height in pixels."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})[xX×](\d{1,9})", text.strip(), re.ASCII)
    if not found:
        raise InputError(f"--size {shortened(text)}: not a size; give WIDTHxHEIGHT, e.g. 512x768")
    return int(found[1]), int(found[2])


def parse_fps(text: str | None) -> Fraction | None:
    """``"24"``, ``"29.97"`` or ``"30000/1001"`` to frames per second."""
    if text is None:
        return None
    number = r"[+-]?\d{1,9}(\.\d{0,30})?([eE][+-]?\d)?|[+-]?\d{1,9}/\d{1,9}"  # bounded: a fraction writes it out
    try:
        if re.fullmatch(number, text.strip(), re.ASCII):
            return Fraction(text.strip()).limit_denominator(1001)
    except ZeroDivisionError:
        pass
    raise InputError(f"--fps {shortened(text)}: not a number; give frames per second, e.g. 24 or 30000/1001")


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Progress bars on the terminal, none where nobody looks at one, and the model libraries' own turned off."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        yield SILENT
        return
    with TerminalProgress() as progress:
        yield progress
