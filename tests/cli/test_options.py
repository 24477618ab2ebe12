"""Options are declared once, in records that become commands and settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from animate_anyone.cli import animate, evaluate, replace
from animate_anyone.cli.app import app
from animate_anyone.cli.options import settings_of
from animate_anyone.cli.records import takes_records, values
from animate_anyone.errors import InputError


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1)] = 3
    tall: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    name: Annotated[str, typer.Option("--name", "-n")]
    size: Size
    colour: str = "red"


def test_a_record_is_filled_from_options() -> None:
    seen: list[Any] = []

    @takes_records
    def draw(source: Path, picture: Picture, *, last: int = 7) -> None:
        """Draw."""
        seen.extend((source, picture, last))

    assert list(inspect.signature(draw).parameters) == ["source", "name", "width", "tall", "colour", "last"]
    assert draw.__doc__ == "Draw."
    shell = typer.Typer()
    shell.command()(draw)
    assert CliRunner().invoke(shell, ["a.png", "-n", "me", "--tall", "--last", "2"]).exit_code == 0
    assert seen == [Path("a.png"), Picture(name="me", size=Size(3, True)), 2]
    assert values(seen[1]) == {"name": "me", "width": 3, "tall": True, "colour": "red"}
    assert CliRunner().invoke(shell, ["a.png", "-n", "me", "--width", "0"]).exit_code == 2
    assert CliRunner().invoke(shell, ["a.png"]).exit_code == 2


@pytest.mark.parametrize("verb", [animate, replace])
def test_every_setting_is_an_option_of_the_same_default(verb: Any) -> None:
    from animate_anyone.workflows import animate as animate_workflow
    from animate_anyone.workflows import replace as replace_workflow

    workflow: Any = animate_workflow if verb is animate else replace_workflow
    command = getattr(verb, verb.__name__.rpartition(".")[2])
    options = inspect.signature(command).parameters
    for field in fields(workflow.Settings):
        assert field.default is not MISSING
        assert options[field.name].default == field.default, field.name
    beside = {"character", "driving", "video", "output", "character_pose", "like", "context", "dry_run"}
    assert options.keys() - beside == {field.name for field in fields(workflow.Settings)}


def test_texts_are_read_into_settings() -> None:
    @dataclass
    class Settings:
        size: Any
        frames: Any

    @dataclass
    class Given:
        size: str | None
        frames: str | None = None
        other: int = 0

    assert settings_of(Settings, Given("64x32", "1:5")) == Settings((64, 32), slice(1, 5))
    assert settings_of(Settings, Given(None)) == Settings(None, None)
    with pytest.raises(InputError, match="--size big"):
        settings_of(Settings, Given("big"))


def commands() -> list[Callable[..., None]]:
    return [found.callback for found in app.registered_commands if found.callback is not None]


def test_an_option_is_declared_once() -> None:
    """Where two verbs have an option of the same name, help, bounds and shown default, it is one declaration."""
    declared: dict[tuple[Any, ...], Any] = {}
    for command in commands():
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
            for info in getattr(parameter.annotation, "__metadata__", ()):
                key = (name, info.help, info.min, info.max, info.show_default)
                assert declared.setdefault(key, info) is info, f"{command.__name__}: --{name}"


def test_a_command_takes_few_parameters() -> None:
    assert evaluate.evaluate in commands()
    for command in commands():
        assert len(inspect.signature(inspect.unwrap(command)).parameters) <= 10, command.__name__
