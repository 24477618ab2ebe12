"""What ``import animate_anyone`` offers, and what it costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import animate_anyone

# Names that need neither networks nor videos.
LIGHT = ("InputError", "PoseSequence", "__version__")
HEAVY = ("torch", "diffusers", "transformers", "av", "mediapipe", "rich", "typer")


def test_importing_is_light() -> None:
    program = (
        "import sys, animate_anyone\n"
        f"for name in {LIGHT!r}: getattr(animate_anyone, name)\n"
        "dir(animate_anyone)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("name", animate_anyone.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(animate_anyone, name)
    assert value == getattr(animate_anyone, name)
    assert name in dir(animate_anyone)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == name
        assert value is getattr(importlib.import_module(value.__module__), name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_the_story_is_a_function_and_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    from animate_anyone.animate import Settings, animate

    assert animate_anyone.Settings is Settings
    assert animate_anyone.animate is sys.modules["animate_anyone.animate"]
    assert animate_anyone.animate.animate is animate
    monkeypatch.setattr(animate_anyone.animate, "animate", lambda *told, **more: (told, more))
    assert animate_anyone.animate("a.png", "b.mp4", "c.mp4", progress=None) == (
        ("a.png", "b.mp4", "c.mp4"),
        {"progress": None},
    )


def test_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert animate_anyone.__version__ == version("animate-anyone")


def test_other_names_list_the_ones_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'animat'; there are: .*load_pipeline"):
        _ = animate_anyone.animat
    with pytest.raises(ImportError):
        from animate_anyone import Animate  # noqa: F401
