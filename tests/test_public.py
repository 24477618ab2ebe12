"""What ``import animate_anyone`` offers, and what it costs."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import animate_anyone
import replaced
import tiny
from animate_anyone.media import probe

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
        own_name = {"ReplaceSettings": "Settings"}.get(name, name)
        assert value.__name__ == own_name
        assert value is getattr(importlib.import_module(value.__module__), own_name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_whatever_is_imported_first() -> None:
    """After each way this package is forgotten, as it is before the first; the libraries need not come anew."""
    ours = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] == "animate_anyone"}
    try:
        for first in ("animate_anyone.workflows.replace", "animate_anyone.workflows.animate", "animate_anyone"):
            for name in [name for name in sys.modules if name.partition(".")[0] == "animate_anyone"]:
                del sys.modules[name]
            importlib.import_module(first)
            package = sys.modules["animate_anyone"]
            assert package is not animate_anyone
            assert inspect.isfunction(package.animate) and inspect.isfunction(package.replace), first
            assert package.Settings is not package.ReplaceSettings, first
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "animate_anyone"]:
            del sys.modules[name]
        sys.modules |= ours


def test_the_page_on_replace_runs(
    dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).resolve().parents[1] / "docs/replace.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    shutil.copy(dancers / "me.png", tmp_path / "character.png")
    shutil.copy(dancers / "dance.mp4", tmp_path / "street.mp4")
    tiny.environment_pipeline(num_inference_steps=1).save_pretrained(tmp_path / "FOLDER")
    replaced.look_with(monkeypatch, dancers)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert probe("out.mp4").num_frames == 12
    assert "out.mp4: 12 frames" in capsys.readouterr().out


def test_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert animate_anyone.__version__ == version("animate-anyone")


def test_other_names_list_the_ones_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'animat'; there are: .*load_pipeline"):
        _ = animate_anyone.animat
    with pytest.raises(ImportError):
        from animate_anyone import Animate  # noqa: F401
