"""Networks of shapes without values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.modeling_utils import no_init_weights


@contextmanager
def shapes_only() -> Iterator[None]:
    """Networks made inside lie on the meta device; no first values are computed, which takes longer than the rest."""
    with torch.device("meta"), no_init_weights():
        yield
