"""Sizes and frame rates as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

from animate_anyone.errors import InputError, shortened


def parse_size(text: str) -> tuple[int, int]:
    """``"768x512"`` to ``(768, 512)``, width and height in pixels. Raises :class:`InputError` for anything else."""
    found = re.fullmatch(r"(\d{1,9})[xX×](\d{1,9})", text.strip(), re.ASCII)
    if not found:
        raise InputError(f"--size {shortened(text)}: not a size; give WIDTHxHEIGHT, e.g. 512x768")
    return int(found[1]), int(found[2])


def parse_fps(text: str) -> Fraction:
    """``"24"``, ``"29.97"`` or ``"30000/1001"`` to frames per second. Raises :class:`InputError` for anything else."""
    number = r"[+-]?\d{1,9}(\.\d{0,30})?([eE][+-]?\d)?|[+-]?\d{1,9}/\d{1,9}"  # bounded: a fraction writes it out
    try:
        if re.fullmatch(number, text.strip(), re.ASCII):
            return Fraction(text.strip()).limit_denominator(1001)
    except ZeroDivisionError:
        pass
    raise InputError(f"--fps {shortened(text)}: not a number; give frames per second, e.g. 24 or 30000/1001")
