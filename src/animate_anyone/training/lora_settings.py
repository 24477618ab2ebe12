"""Settings of LoRA, as a recipe says them."""

from __future__ import annotations

from dataclasses import dataclass

from animate_anyone.errors import InputError


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on attention's projections, which are trained alone, see ``lora``.

    Attributes:
        rank: of each adapter's product.
        alpha: what it adds counts ``alpha / rank``; ``None``: 1.
    """

    rank: int = 16
    alpha: float | None = None

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 10**4:
                raise InputError(f"recipe: lora.{name} is {value}; it must be above 0 and at most 10000")
