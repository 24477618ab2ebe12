"""``animate-anyone doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from animate_anyone.cli.options import Device


def doctor(
    device: Device = "auto",
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Animate three frames with the shipped model.")
    ] = True,
) -> None:
    """Say what of this installation works, a line each, and what to type where something does not.

    Exit status 0: all that is installed works; 1: there are warnings; 2: something that is needed does not work.
    """
    from animate_anyone.workflows.doctor import examine, status

    findings = []
    for finding in examine(device, self_test):
        print(finding.line, flush=True)
        findings.append(finding)
    raise typer.Exit(status(findings))
