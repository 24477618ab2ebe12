"""``animate-anyone``: the entry point. Signals are caught before anything that takes time is imported."""

from __future__ import annotations

import sys

from animate_anyone.system.signals import Signals


def main() -> None:
    """Run the command line and end with its exit status, see :func:`animate_anyone.cli.app.run`."""
    signals = Signals()
    signals.catch()
    from animate_anyone.cli.app import run

    status = run(signals)
    signals.end(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
