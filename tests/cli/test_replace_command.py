"""``animate-anyone replace``: what it makes, and how it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import Shell

import replaced
import tiny
from animate_anyone.media import probe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aa2") / "model"
    tiny.environment_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def shell(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside a character and a video, with eyes that know who is where in it."""
    for file in dancers.iterdir():
        shutil.copy(file, tmp_path / file.name)
    replaced.look_with(monkeypatch, dancers)
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def basic(model: Path) -> list[str]:
    """A good command; later options take the place of these."""
    options = ["--video", "dance.mp4", "--model", str(model), "--steps", "1", "--guidance", "1"]
    return ["replace", "me.png", *options, "--device", "cpu"]


def test_a_dance(shell: Shell, basic: list[str]) -> None:
    result = shell(
        *basic, "--keep-background", "--feather", "2", "--continuation", "2", "--steps", "2", "-o", "danced.mp4"
    )
    assert (result.status, result.err) == (0, ""), result.err
    assert "danced.mp4: 12 frames, 256x256, 12 frames per second" in result.out
    assert "the video's own pixels were kept" in result.out
    info = probe("danced.mp4")
    assert (info.num_frames, info.width, info.height, info.has_audio) == (12, 256, 256, True)


def test_dry_run(shell: Shell, basic: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("animate_anyone.workflows.replace.load_pipeline", None)  # no weights
    before = shell.files()
    result = shell(*basic, "--dry-run", "--keep", "kept")
    assert (result.status, result.err) == (0, "")
    assert shell.files() == before
    lines = result.out.splitlines()
    assert re.fullmatch(r"model: .*model, \d MiB on disk", lines[0])
    assert lines[1] == "clip: 12 frames of 64x64; windows of 8: 2, 1 at once; 1 step, without guidance"
    # 12 frames: a bit a pixel of 256x256, 3 bytes and a bit of the model's 64x64, 7 bytes of the 128x128 that it draws
    # poses at; in memory also two frames of the video.
    wanted = (
        r"pictures and masks, the video's \(256x256\), the result's and the networks': 2 MiB of memory, and \d+ MiB "
        r"while they are made; 2 MiB of disk in .+, of which .+ are free: they fit"
    )
    assert re.fullmatch(wanted, lines[2])
    assert lines[3].startswith("weights, float32: image_encoder ")
    assert ", pose_modulation " in lines[3]
    assert re.fullmatch(r"on cpu, beside the libraries: reference .*, poses .*, scene .*, denoising .*", lines[4])
    assert re.match(r"memory: .* at the peak", lines[5])
    assert lines[6] == "computed from the shapes of the networks, not measured"
    options = ("--steps", "2", "--continuation", "3", "--window-batch", "2", "--objects", "marks.json")
    marks = {"objects": [{"name": "ball", "marks": [{"frame": 0, "box": [10, 10, 60, 60]}]}]}
    (shell.folder / "marks.json").write_text(json.dumps(marks))
    other = shell(*basic, "--dry-run", *options).out
    assert "segments that share 3 of 8: 2, 1 at once; 2 steps" in other
    assert "the networks': 2 MiB of memory" in other


def test_a_disk_that_is_too_small_is_told_before_the_work(
    shell: Shell, basic: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    before = shell.files()
    told = shell(*basic, "--dry-run")
    assert "1 MiB are free: make room, set TMPDIR to a folder that has some" in told.out and told.status == 0
    refused = shell(*basic, "-o", "none.mp4")
    assert (refused.status, refused.out) == (2, "")
    assert "the pictures of this clip need 2 MiB, and 1 MiB are free; make room, set TMPDIR" in refused.err
    assert shell.files() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such-model"], "no-such-model: no model of that name"),
        (["--model", "puppet"], "is a model of Animate Anyone; type `animate-anyone animate`"),
        (["--video", "missing.mp4"], r"missing\.mp4: no such file"),
        (["--video", "dance.npz"], "holds poses; replace needs the video"),
        (["--video", "skeleton.mp4"], "holds a skeleton video; replace needs the video"),
        (["--objects", "ball"], "mark them in a .json file, or give --object-weights FOLDER"),
        (["--objects", "ask"], "--objects ask: a model of Qwen-VL's kind is asked; give its folder: --object-weights"),
        (
            ["--objects", "ask", "--object-weights", "."],
            "no config.json there; give the folder of --objects ask's weights",
        ),
        (["--depth", "nowhere"], "nowhere: no config.json there; give the folder of --depth's weights"),
        (["--rtmlib-mode", "best"], "rtmlib has no mode 'best'; there are: lightweight, balanced, performance"),
        (["--rtmlib-pose", "dw.onnx"], "--rtmlib-pose: the pose estimator is mediapipe; give --pose-estimator rtmlib"),
        (["--pose-estimator", "rtmlib", "--model", "puppet-environment"], "mediapipe, or --depth FOLDER"),
        (["--objects", "missing.json"], r"missing\.json: no such file"),
        (["--objects", "text.json"], "not a JSON file"),
        (["--masker", "eyes"], "there is no masker 'eyes'"),
        (["--continuation", "8"], "continuation is 8; give 0, or less than the window of 8"),
        (["--window", "4", "--overlap", "4"], "window 4, overlap 4"),
        (["--size", "60x60"], "size 60x60"),
        (["--frames", "5:99"], "12 frames"),
        (["-o", "out.gif"], "this kind of file cannot be written"),
        (["-o", "dance.mp4"], "is what the work starts from"),
        (["--keep", "me.png"], "is no folder"),
    ],
)
def test_mistakes(shell: Shell, basic: list[str], options: list[str], message: str) -> None:
    (shell.folder / "text.json").write_text("no marks\n")
    assert re.search(message, shell.refused(*basic, *options))
