"""All verbs, exit statuses, and errors in one line."""

from __future__ import annotations

import sys

import typer

from animate_anyone.cli import (
    animate,
    batch,
    demo,
    doctor,
    evaluate,
    models,
    pose,
    prepare,
    replace,
    report,
    synthesize,
    train,
    web,
)
from animate_anyone.cli.streams import standard_streams
from animate_anyone.errors import InputError
from animate_anyone.system.signals import WORDS, Signals
from animate_anyone.system.silence import quiet_libraries
from animate_anyone.system.whole_files import is_unfinished, kept_for_later, remove_unfinished

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, where the interrupt came as an exception

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Give one picture of a character and a video of somebody moving; get a video of the character moving so.",
)
app.command("animate")(animate.animate)
app.command("replace")(replace.replace)
app.command("batch")(batch.batch)
app.command("pose")(pose.pose)
app.command("synthesize")(synthesize.synthesize)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("web")(web.web)
app.add_typer(models.app, name="models")


def run(signals: Signals) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: `doctor` has warnings, or some of `batch`'s videos are not there; 2: the user's mistake, or standard
    output that cannot be written, said in one line; 128 + n: stopped by signal n.
    """
    signals.is_unfinished, signals.remove_unfinished = is_unfinished, remove_unfinished
    quiet_libraries()
    with standard_streams() as (out, _):
        try:
            status = _run_app(signals)
            if signals.caught is not None:
                signals.end(128 + signals.caught)  # from here on it is not told again, nor becomes an exception
        except BaseException:
            if signals.caught is None:
                raise
            signals.end(128 + signals.caught)
        if signals.caught is not None:
            status = 128 + signals.caught
        if status > 128:
            remove_unfinished()
            later = "".join(f"; the same command goes on from {folder}" for folder in sorted(kept_for_later))
            print(f"{WORDS}{later}", file=sys.stderr)
            return status
        out.flush()
        if out.error is not None and not isinstance(out.error, BrokenPipeError):  # whose reader has seen enough
            why = out.error.strerror
            print(f"error: standard output cannot be written ({why}); what was made is whole", file=sys.stderr)
            return status or MISTAKE
        return status


def _run_app(signals: Signals) -> int:
    try:
        app()
    except InputError as error:
        if signals.caught is None:
            print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        if _has_temporary_folder():
            raise
        # The model libraries ask for one while they are imported, before any work.
        print("error: there is no folder for temporary files; set TMPDIR to one with room in it", file=sys.stderr)
        return MISTAKE
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _has_temporary_folder() -> bool:
    import tempfile

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True
