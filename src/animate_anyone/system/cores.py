"""How many cores there are."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those that this process may use: a container or a job of a cluster may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
