"""``animate-anyone``: verbs, exit statuses, and errors in one line."""

from __future__ import annotations

import os
import sys
import warnings

import typer

from animate_anyone.cli import animate, demo, evaluate, models, pose, replace, report, synthesize, train
from animate_anyone.errors import InputError

INTERRUPTED = 130  # exit status; 128 + SIGINT

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Give one picture of a character and a video of somebody moving; get a video of the character moving so.",
)
app.command("animate")(animate.animate)
app.command("replace")(replace.replace)
app.command("pose")(pose.pose)
app.command("synthesize")(synthesize.synthesize)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("demo")(demo.demo)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line. Exit status 0: done; 2: the user's mistake, told in one line; 130: interrupted."""
    _quiet_libraries()
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of an interrupt
            print("stopped; nothing half-written is left", file=sys.stderr)
        raise


def _quiet_libraries() -> None:
    """Other people's bars and remarks do not belong between ours."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"google\.protobuf")


if __name__ == "__main__":
    main()
