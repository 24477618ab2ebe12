"""The other verbs: pose, synthesize, train, evaluate, demo."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from command import Shell
from PIL import Image

import tiny
from animate_anyone.evaluation import environment_suite, suites
from animate_anyone.media import probe
from animate_anyone.models.shipped import INDEX, SHIPPED, shipped_folder
from animate_anyone.structures import PoseSequence
from conftest import REPOSITORY


@pytest.fixture
def shell(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside a character, a dance and their like."""
    for file in dancers.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return Shell(tmp_path, monkeypatch, capfd)


def test_pose_of_a_video_and_a_picture(shell: Shell) -> None:
    pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
    result = shell("pose", "dance.mp4", "-o", "found.npz", "--preview", "over.mp4", "--frames", "2:8")
    assert (result.status, result.err) == (0, "")
    assert "found.npz: poses of 6 frames" in result.out
    found, truth = PoseSequence.load("found.npz"), PoseSequence.load("dance.npz")[2:8]
    assert (len(found), found.size, found.fps) == (6, (256, 256), 12)
    both = (found.scores[:, :14] > 0.5) & (truth.scores[:, :14] > 0.5)
    assert np.median(np.linalg.norm(found.keypoints - truth.keypoints, axis=2)[:, :14][both]) < 12  # pixels
    info = probe("over.mp4")
    assert (info.num_frames, info.width, info.height) == (6, 256, 256)
    assert shell("pose", "me.png", "-o", "my.npz").status == 0
    assert len(PoseSequence.load("my.npz")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], r"missing\.mp4: no such file"),
        (["missing.png"], r"missing\.png: no such file"),
        (["dance.npz"], r"dance\.npz: holds poses already"),
        (["skeleton.mp4"], r"skeleton\.mp4: is a skeleton video"),
        (["dance.mp4", "-o", "out.txt"], r"out\.txt: this kind of file cannot be written; end the name in \.npz"),
        (["dance.mp4", "-o", "nowhere/out.npz"], r"there is no folder nowhere"),
        (["dance.mp4", "--preview", "dance.mp4"], r"dance\.mp4: is what the work starts from"),
        (["dance.mp4", "--preview", "over.gif"], r"over\.gif: this kind of file cannot be written"),
        (["dance.mp4", "--frames", "500:600"], r"dance\.mp4 has 12 frames"),
        (["dance.mp4", "--frames", "9" * 5000 + ":"], r"give A:B"),
        (["dance.mp4", "--pose-estimator", "eyes"], r"no pose estimator 'eyes'"),
        (["dance.mp4", "--rtmlib-mode", "lightweight"], r"--rtmlib-mode: the pose estimator is mediapipe"),
    ],
)
def test_mistakes_with_pose(shell: Shell, arguments: list[str], message: str) -> None:
    assert re.search(message, shell.refused("pose", *arguments))


def test_pose_where_nobody_is(shell: Shell) -> None:
    pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
    Image.new("RGB", (128, 128), (90, 120, 90)).save("meadow.png")
    assert "meadow.png: no person was found in it" in shell.refused("pose", "meadow.png")


def test_synthesize(shell: Shell) -> None:
    result = shell("synthesize", "-o", "a/b", "--clips", 2, "--seed", 5, "--frames", 3, "--size", "64x48", "--held-out")
    assert (result.status, result.err, result.out) == (0, "", "a/b: 2 clips of 3 frames\n")
    names = {f"held_out_00000{n}{end}" for n in (5, 6) for end in (".mp4", ".png", ".npz", "_first.npz", "_masks.npz")}
    assert {f.name for f in Path("a/b").iterdir()} == names
    info = probe("a/b/held_out_000005.mp4")
    assert (info.num_frames, info.width, info.height, info.fps) == (3, 64, 48, 12)
    poses, first = PoseSequence.load("a/b/held_out_000005.npz"), PoseSequence.load("a/b/held_out_000005_first.npz")
    assert (len(poses), len(first)) == (3, 1)
    with np.load("a/b/held_out_000005_masks.npz") as masks:
        assert masks["masks"].shape == (3, 48, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "clips", "--size", "big"], r"--size big: not a size"),
        (["-o", "clips", "--size", "8x8"], r"--size 8x8: both sides must lie between 16 and 2048"),
        (["-o", "clips", "--size", "99999x99999"], r"--size 99999x99999"),
        (["-o", "clips", "--motion", "fly"], r"motion is 'fly'; it must be one of .*dance"),
        (["-o", "me.png", "--size", "64x64", "--frames", "1"], r"me\.png: cannot be made"),
    ],
)
def test_mistakes_with_synthesize(shell: Shell, arguments: list[str], message: str) -> None:
    assert re.search(message, shell.refused("synthesize", *arguments))


def test_train(shell: Shell) -> None:
    """From a file and settings beside it; a second run goes on where the first ended."""
    recipe = yaml.safe_load((REPOSITORY / "recipes/puppet_autoencoder.yaml").read_text())
    recipe["data"] = {"size": 64, "clips": 2, "frames_per_clip": 2, "supersample": 1, "workers": 1}
    recipe["networks"] = {"vae": tiny.VAE}
    Path("my.yaml").write_text(yaml.safe_dump(recipe))
    settings = ["steps=2", "batch=2", "precision=float32", "output=run", "objective.crop=null", "log_every=1"]
    result = shell("train", "my.yaml", *settings)
    assert (result.status, result.err, result.out) == (0, "", "run/model: the model after 2 steps\n")
    assert Path("run/model/vae/config.json").is_file()
    result = shell("train", "my.yaml", *settings, "steps=3", "--resume")
    assert result.status == 0
    assert [json.loads(line)["step"] for line in Path("run/log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert "trained with another batch" in shell.refused("train", "my.yaml", *settings, "batch=4", "--resume")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yaml"], r"missing\.yaml: no such recipe"),
        (["me.png"], r"me\.png: not a recipe"),
        (["{image}", "step=5"], r"unknown setting step; did you mean steps\?"),
        (["{image}", "steps"], r"'steps' is not KEY=VALUE"),
        (["{image}", "data.size=["], r"the value is no YAML"),
        (["{image}", "init=nowhere", "output=run"], r"nowhere: has no vae/"),
        (["{image}", "output=me.png/run"], r"output me\.png/run: cannot be made"),
    ],
)
def test_mistakes_with_train(shell: Shell, arguments: list[str], message: str) -> None:
    image = str(REPOSITORY / "recipes/puppet_image.yaml")
    assert re.search(message, shell.refused("train", *(a.format(image=image) for a in arguments)))


def test_train_shows_a_shipped_recipe(shell: Shell) -> None:
    result = shell("train", "puppet_image", "--show")
    assert (result.status, result.err) == (0, "")
    assert result.out == (REPOSITORY / "recipes/puppet_image.yaml").read_text()


def test_evaluate(shell: Shell, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "LONG_FRAMES", 12)  # two windows
    options = ["--model", str(tiny_model), "--characters", "1", "--steps", "1", "--device", "cpu"]
    result = shell("evaluate", *options, "--json", "figures.json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(Path("figures.json").read_text())
    assert report["model_name"] == str(tiny_model)
    assert report["settings"]["characters"] == len(report["clips"]) == 1
    with Image.open("figures.png") as sheet:
        assert sheet.width > 64 * 9
    # What is printed is what is written.
    for who in ("model", "copy_reference"):
        line = next(line for line in result.out.splitlines() if line.startswith(who))
        assert f"{report[who]['person_psnr']:.2f} dB" in line
        assert f"{report[who]['ssim']:.4f}" in line
    again = shell("evaluate", *options, "--sheet", "only.png")
    assert again.out == result.out
    assert Path("only.png").is_file()


def test_evaluate_in_scenes(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite of Animate Anyone 2, with the shipped model of Animate Anyone pasted in beside."""
    monkeypatch.setattr(environment_suite, "FRAMES", 2)
    monkeypatch.setattr(environment_suite.SuiteScene.of.__func__, "__defaults__", (2, False))
    model = tmp_path / "scenes"
    tiny.environment_pipeline(reference_latents=True, carried_reference=True).save_pretrained(model)
    options = ["--suite", "puppet-environment", "--model", str(model), "--characters", "1", "--device", "cpu"]
    result = shell("evaluate", *options, "--json", "figures.json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(Path("figures.json").read_text())
    assert report["suite"] == "puppet-environment" and len(report["scenes"]) == 1
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == ["model", "copy_source", "paste", "collage"]
    for who in ("model", "copy_source", "paste", "collage"):
        line = next(line for line in result.out.splitlines() if line.startswith(who))
        assert f"{report[who]['person']:.2f}" in line
    assert report["collage"]["environment"] == report["copy_source"]["environment"] == environment_suite.MOST
    assert report["collage"]["person"] > report["copy_source"]["person"] + 2
    assert Path("figures.png").is_file()
    assert "--long-clips goes with --suite puppet" in shell.refused("evaluate", *options, "--long-clips", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "faces"], r"--suite faces: not known; there is: puppet"),
        (["--model", "no-such-model"], r"no-such-model: no model of that name"),
        (["--model", "{tiny}", "--json", "nowhere/figures.json"], r"there is no folder nowhere"),
        (["--model", "{tiny}", "--json", "figures.png"], r"figures\.png: this kind of file cannot be written"),
        (["--model", "{tiny}", "--sheet", "sheet.gif"], r"sheet\.gif: this kind of file cannot be written"),
        (["--model", "{tiny}", "--steps", "5000"], r"5000 denoising steps"),
        (["--model", "{tiny}", "--guidance", "nan"], r"guidance nan"),
    ],
)
def test_mistakes_with_evaluate(shell: Shell, tiny_model: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, shell.refused("evaluate", *(a.format(tiny=tiny_model) for a in arguments)))


def test_seed_of_evaluate_is_bounded(shell: Shell) -> None:
    assert shell("evaluate", "--seed", "-1").status == 2
    assert shell("evaluate", "--seed", "9" * 30).status == 2


def test_mistakes_with_demo(shell: Shell) -> None:
    assert "show.txt: cannot be written; end the name in .mp4" in shell.refused("demo", "-o", "new/show.txt")


@pytest.mark.skipif(
    not (shipped_folder(SHIPPED[0]) / INDEX).is_file(),
    reason="the shipped model is not there",
)
def test_demo(shell: Shell) -> None:
    result = shell("demo", "--frames", "2", "-o", "new/show.mp4")
    assert (result.status, result.err) == (0, "")
    assert probe("new/show.mp4").num_frames == 2
