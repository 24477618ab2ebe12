"""``doctor``: what works is told, and each fault is a line with what to type."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections import namedtuple
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from animate_anyone import optional
from animate_anyone.errors import InputError
from animate_anyone.models import folder as model_folders
from animate_anyone.sampling import memory
from animate_anyone.workflows import animate, doctor
from animate_anyone.workflows.doctor import ABSENT, FAULT, OK, WARNING, Finding, examine, status
from conftest import REPOSITORY


def found(word: str, **options: Any) -> list[Finding]:
    """What is told with a word in it, the self-test left out."""
    findings = list(examine(self_test=False, **options))
    assert all("\n" not in finding.line for finding in findings)
    return [finding for finding in findings if word in finding.line]


@pytest.fixture(autouse=True)
def nothing_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", str(home))
    monkeypatch.setattr(doctor, "EXTRAS", {"tensorboard": ("json.decoder",), "pose": ("json",)})
    return home


def test_all_extras_are_looked_at() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    made_of_others = {name for name, ones in extras.items() if all(one.startswith("animate-anyone[") for one in ones)}
    assert set(extras) - {"dev", "docs"} - made_of_others <= set(optional.EXTRAS)


def test_the_statuses() -> None:
    ok, absent, warning, fault = (Finding(level, "it") for level in (OK, ABSENT, WARNING, FAULT))
    assert [status(given) for given in ([ok, absent], [ok, warning], [warning, fault], [])] == [0, 1, 2, 0]
    assert Finding(FAULT, "a\nb", "type: c").line == "fault    a b; type: c"


def test_the_self_test_passes() -> None:
    (finding,) = (one for one in examine("cpu") if "self-test" in one.line)
    assert finding.level == OK
    assert "3 frames of 128x128 on cpu" in finding.text


def test_a_self_test_that_makes_wrong_frames_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    made = animate.make_frames

    def wrong(*given: Any) -> Any:
        return (255 - frame for frame in made(*given))

    monkeypatch.setattr(animate, "make_frames", wrong)
    (finding,) = (one for one in examine("cpu") if "self-test" in one.line)
    assert finding.level == FAULT
    assert "15 dB" in finding.mend


def test_a_self_test_that_breaks_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(animate, "animate", broken)
    (finding,) = (one for one in examine("cpu") if "self-test" in one.line)
    assert finding.level == FAULT
    assert "RuntimeError: no kernel image is available; with --device cpu it can be seen" in finding.line
    (finding,) = (one for one in examine("cuda:77") if "self-test" in one.line)
    assert "device 'cuda:77' is not there; give auto, cpu" in finding.line


def test_a_requirement_that_is_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["numpy>=999", "no-such-package>=2", "torch>=1", "pandas; extra == 'x'", "winpy; sys_platform == 'none'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: asked)
    monkeypatch.setattr(doctor.metadata, "version", _version_of({"animate-anyone": "0.1.0"}))
    lines = [finding.line for finding in found("is needed")]
    assert len(lines) == 2
    assert lines[0].startswith("fault    numpy>=999 is needed, numpy is there in version")
    assert lines[0].endswith('type: pip install "numpy>=999"')
    assert lines[1].endswith('no-such-package is not installed; type: pip install "no-such-package>=2"')


def _version_of(known: dict[str, str], absent: tuple[str, ...] = ()) -> Any:
    asked = doctor.metadata.version

    def version(name: str) -> str:
        if name in absent:
            raise doctor.metadata.PackageNotFoundError(name)
        return known.get(name) or asked(name)

    return version


def test_codecs_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Codec:
        def __init__(self, name: str, mode: str) -> None:
            if name in ("libx264", "av1"):
                raise ValueError("no codec")

    monkeypatch.setattr(av, "Codec", Codec)
    written, read = found("codecs: ")
    assert written.level == FAULT and "cannot write video: it has no libx264" in written.text
    assert read.level == WARNING and read.text.endswith("cannot read av1")
    assert "pip install --force-reinstall" in written.mend


def test_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_extra.py").write_text("raise OSError('libGL.so.1: cannot open\\nshared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fatal_extra.py").write_text("import os\nos.abort()")
    (tmp_path / "whole_extra.py").write_text("print('Welcome')")
    extras = {"pose": ("no_such_module",), "rtmlib": ("no_such_module",), "web": ("broken_extra",)}
    extras |= {"lora": ("fatal_extra",), "ray": ("yaml", "whole_extra")}
    monkeypatch.setattr(doctor, "EXTRAS", extras)
    by_level: dict[str, list[str]] = {}
    for finding in (*found("extra "), *found("estimator")):
        by_level.setdefault(finding.level, []).append(finding.line)
    assert len(by_level[ABSENT]) == 2
    assert by_level[ABSENT][0].endswith('type: pip install "animate-anyone[pose]"')
    assert by_level[OK] == ["ok       extra ray: yaml, whole_extra"]
    assert not {"broken_extra", "whole_extra"} & set(sys.modules)  # what an import starts or sets is not left behind
    broken, fatal, nobody_sees = by_level[WARNING]
    assert "extra lora: importing fatal_extra ends the process (" in fatal
    assert "libGL.so.1: cannot open shared object file; to renew it: pip install" in broken
    assert 'type: pip install "animate-anyone[' in nobody_sees


def test_two_opencvs(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"opencv-python": "4", "opencv-contrib-python": "4"}
    monkeypatch.setattr(doctor.metadata, "version", _version_of(versions))
    (finding,) = found("overwrite each other")
    assert finding.level == WARNING and "pip uninstall opencv-contrib-python opencv-python" in finding.mend


def test_models(nothing_pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(f.level, f.text) for f in found("model ")] == [
        (OK, "model puppet: shipped, whole"),
        (OK, "model puppet-environment: shipped, whole"),
    ]
    (nothing_pulled / "moore").mkdir(parents=True)
    (nothing_pulled / "moore" / "source.json").write_text("{")
    (finding,) = found("weights moore")
    assert finding.level == WARNING and "pull again" in finding.line

    def damaged(_: Path) -> None:
        raise InputError("cut off")

    monkeypatch.setattr(model_folders, "check_weights", damaged)
    assert [f.line for f in found("model puppet:")] == [f"fault    model puppet: cut off; type: {doctor.REINSTALL}"]


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 5 << 20))
    monkeypatch.setattr(memory, "memory_of", lambda _: (1 << 30, 4 << 30))
    told = [*found("disk"), *found("memory:")]
    assert [finding.level for finding in told] == [WARNING] * 4
    assert "5 MiB free; make room, or work in another folder" in told[0].line
    assert "1.0 GiB of 4.0 GiB free" in told[3].line


def test_a_gpu_that_this_pytorch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/nvidia-smi" if name == "nvidia-smi" else None)
    (finding,) = found("GPU:")
    assert finding.level == WARNING and "pytorch.org" in finding.mend


def test_a_pytorch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    told = found("PyTorch:")
    assert [finding.level for finding in told] == [FAULT]
    assert "ModuleNotFoundError" in told[0].text
    assert told[0].mend == "to renew it, type: pip install --force-reinstall torch"


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Path:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "cwd", gone)
    (finding,) = found("disk and memory")
    assert (finding.level, finding.mend) == (FAULT, "")
