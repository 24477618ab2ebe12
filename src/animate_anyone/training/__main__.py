"""``python -m animate_anyone.training``: training where only PyTorch and the model libraries are installed.

It is ``animate-anyone train`` without the packages that read videos, find poses and draw command lines.
"""

from __future__ import annotations

import time

_BEGAN = time.monotonic()  # before the imports, which take their time too

from animate_anyone.system.signals import WORDS, Signals  # noqa: E402

if __name__ == "__main__":  # before the other imports; a process that renders imports this file by another name
    _SIGNALS = Signals()
    _SIGNALS.catch()

import argparse  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Iterable, Iterator  # noqa: E402
from typing import NoReturn, TypeVar  # noqa: E402

from animate_anyone.errors import InputError  # noqa: E402
from animate_anyone.progress import Progress  # noqa: E402
from animate_anyone.system.whole_files import is_unfinished, remove_unfinished  # noqa: E402

Item = TypeVar("Item")

_SECONDS = 10.0  # between two lines


class LineProgress(Progress):
    """A line on the standard error stream now and then."""

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        """As :meth:`Progress.track`."""
        printed = time.monotonic()
        for number, item in enumerate(items, 1):
            yield item
            if time.monotonic() - printed >= _SECONDS:
                printed = time.monotonic()
                print(f"{description}: {number}{f' of {total}' if total else ''}", file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; type: {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m animate_anyone.training", description="Train by a recipe.")
    parser.add_argument("recipe", help="recipe or chain of recipes: a file, or a shipped one's name, e.g. puppet_image")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings instead of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--minutes", type=float, help="stop in time, with everything saved")
    parser.add_argument("--check", action="store_true", help="print what it will train and need, and do nothing")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Train. Exit status 0: done; 2: the user's mistake, told in one line."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        given = _parser().parse_intermixed_args(arguments)
        from animate_anyone.training.chain import check_file, train_file

        if given.check:
            print(check_file(given.recipe, given.settings))
            return 0
        line = train_file(
            given.recipe,
            given.settings,
            resume=given.resume,
            minutes=given.minutes,
            began=_BEGAN,
            progress=LineProgress(),
            command=["python", "-m", "animate_anyone.training", given.recipe, *given.settings],
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(line)
    return 0


def run_program(signals: Signals) -> int:
    """:func:`main`; its exit status or, where signal n stopped it, 128 + n, with nothing half written."""
    signals.is_unfinished, signals.remove_unfinished = is_unfinished, remove_unfinished
    status = 0
    try:
        status = main()
    except BaseException:  # a library may have made another exception of it
        if signals.caught is None:
            raise
    if signals.caught is not None:
        remove_unfinished()
        print(WORDS, file=sys.stderr)
        status = 128 + signals.caught
    signals.end(status)
    return status


if __name__ == "__main__":
    sys.exit(run_program(_SIGNALS))
