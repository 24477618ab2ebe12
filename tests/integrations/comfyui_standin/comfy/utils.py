"""The bar of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROGRESS_BAR_HOOK: Callable[..., None] | None = None


class ProgressBar:
    """As ComfyUI's own."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total, self.current, self.node_id = total, 0, node_id

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        """So far it is."""
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        if PROGRESS_BAR_HOOK is not None:
            PROGRESS_BAR_HOOK(self.current, self.total, preview, node_id=self.node_id)


def set_progress_bar_global_hook(function: Callable[..., None]) -> None:
    """Who is told."""
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function
