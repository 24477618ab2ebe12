"""What tests of the served page share."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]
