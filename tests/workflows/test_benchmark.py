"""A benchmark from end to end: killed and begun again, with clips that are no good, with other backgrounds."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forked
import small_benchmark
import tiny
from animate_anyone.engines.engine import InProcess
from animate_anyone.errors import InputError
from animate_anyone.evaluation.folders import ClipFiles
from animate_anyone.media import read_picture
from animate_anyone.structures import MaskTrack, Scene
from animate_anyone.workflows import batch as batch_workflow
from animate_anyone.workflows import benchmark_inputs
from animate_anyone.workflows.benchmark import Asked, Making, Outcome, benchmark, check_model
from animate_anyone.workflows.benchmark_inputs import UNIFORM, Preparation, Prepared

METRICS = ("psnr", "ssim", "l1")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with TikTok of three clips, and a split that names them."""
    small_benchmark.tiktok(tmp_path / "data")
    (tmp_path / "split.txt").write_text("00335\n00336 2 # its last frame\nTiktokDance_00337\n")
    return tmp_path


def run(here: Path, model: Path, results: str = "out", **changes: Any) -> Outcome:
    split = changes.pop("split", here / "split.txt")
    asked = Asked("tiktok", here / "data", split, metrics=METRICS, **changes)
    return benchmark(asked, Making(str(model), steps=1, device="cpu"), here / results, InProcess())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As processes that are forked have: a model's last bits depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are forked")
@pytest.mark.usefixtures("one_thread")
def test_killed_and_begun_again(here: Path, tiny_model: Path) -> None:
    """The same report and the same videos, byte for byte, as of a run that nobody stopped."""
    words = ("evaluate", "--benchmark", "tiktok", "data", "--model", tiny_model, "--split", "split.txt", "--steps", "1")
    words = (*words, "--device", "cpu", "--metrics", "psnr,ssim,l1", "--workers", "1", "-o")

    def stopped_at(job: int) -> Callable[[], None]:
        def work() -> None:
            os.environ |= {small_benchmark.STOP_AT: str(job), "OMP_NUM_THREADS": "1"}
            batch_workflow.make = small_benchmark.make_until
            forked.command_line(*words, "out")()

        return work

    process = forked.Forked(stopped_at(3), here)
    assert process.stdout.readline() == "here\n", process.communicate()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    there = {file.name: file.stat().st_mtime_ns for file in (here / "out" / "videos").glob("*.mp4")}
    assert sorted(there) == ["00335.mp4", "00336.mp4"] and not (here / "out" / "report.json").exists()

    process = forked.Forked(stopped_at(0), here)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "3 videos, 9 frames, protocol disco-legacy" in out
    assert "| Animate Anyone 2 | 0.778 | 29.82 |" in out and f"| **{tiny_model.name} (ours)** |" in out
    kept = {name: (here / "out" / "videos" / name).stat().st_mtime_ns for name in there}
    assert kept == there  # not made twice

    run(here, tiny_model, "other")
    for name in ("report.json", "report.md", *(f"videos/0033{n}.mp4" for n in (5, 6, 7))):
        assert (here / "out" / name).read_bytes() == (here / "other" / name).read_bytes(), name
    report = json.loads((here / "out" / "report.json").read_text())
    assert report["references"] == {"00335": 0, "00336": 2, "00337": 0}
    for name, number in (("00335", 1), ("00336", 3)):
        truth = here / f"data/TikTok_dataset/{name}/images/{number:04}.png"
        assert np.array_equal(read_picture(here / f"out/references/{name}.png"), read_picture(truth))


def test_bad_clips_stop_no_other(here: Path, tiny_model: Path) -> None:
    clips = here / "data" / "TikTok_dataset"
    (clips / "00336/images/0002.png").write_bytes(b"\x89PNG broken")
    for file in (clips / "00337/images").iterdir():  # nobody in it
        shutil.copy(small_benchmark.blank(here), file)
    outcome = run(here, tiny_model, split=None)
    assert outcome.status == 2
    assert list(outcome.failed) == ["00336", "00337", "00338", "00339", "00340"]
    assert "0002.png" in outcome.failed["00336"] and outcome.failed["00338"] == "is not there"
    assert [video["name"] for video in outcome.report["videos"]] == ["00335"]
    text = "\n".join(outcome.lines())
    assert "5 of 6 clips were not made, and the figures are without them:" in text
    assert outcome.report["failed"] == outcome.failed == json.loads((here / "out/report.json").read_text())["failed"]
    shutil.rmtree(clips / "00335")
    with pytest.raises(InputError, match=r"none of 6 clips could be made; the first, 00335: is not there"):
        run(here, tiny_model, split=None)


def test_results_are_scaled_to_the_truth(here: Path, tiny_model: Path) -> None:
    outcome = run(here, tiny_model, num_frames=2)
    assert outcome.failed == {} and outcome.report["num_frames"] == 6
    assert outcome.report["sizes"] == ["192x256"] and outcome.report["scaled_to_truth"] != []
    assert "192x256" not in outcome.report["scaled_to_truth"]
    assert outcome.report["most_frames"] == 2
    assert outcome.report["metrics"]["psnr_disco"] > 24 > outcome.report["metrics"]["psnr"]


def test_one_colour_behind_the_person(here: Path, tiny_model: Path) -> None:
    """By the masks of the data set: no network looks at anything."""
    (here / "split.txt").write_text("00335\n00336\n")
    outcome = run(here, tiny_model, background="uniform")
    assert (outcome.failed, outcome.report["table"]) == ({}, "aa2-character")
    clip = small_benchmark.dancer(small_benchmark.SEEDS[0])
    for number, (frame, mask) in enumerate(zip(clip.frames.numpy(), clip.mask.numpy(), strict=True)):
        shown = read_picture(here / f"out/inputs/00335/{number:05}.png")
        assert np.array_equal(shown[mask], frame[mask]) and (shown[~mask] == UNIFORM).all()
    assert np.array_equal(read_picture(here / "out/references/00335.png"), read_picture(here / "out/inputs/00335.png"))
    before = {file: file.stat().st_mtime_ns for file in (here / "out").rglob("*.png")}
    assert run(here, tiny_model, background="uniform").report == outcome.report
    assert before == {file: file.stat().st_mtime_ns for file in (here / "out").rglob("*.png")}


def test_the_background_of_the_reference(here: Path, tmp_path: Path) -> None:
    """In every frame the same behind the person, completed where the reference's own person stood."""
    tiny.environment_pipeline(num_inference_steps=1).save_pretrained(tmp_path / "scenes")
    making = Making(str(tmp_path / "scenes"))
    assert check_model(Asked("tiktok", here), making) == ("replace", "reference")
    assert check_model(Asked("ubc", here), making) == ("replace", "own")
    clip = ClipFiles("00335", (folder := here / "data/TikTok_dataset/00335/images"), tuple(sorted(folder.iterdir())))
    preparation = Preparation(tmp_path / "out", "reference", benchmark_inputs.SourceVideoSettings("puppet"))
    prepared = preparation.prepare(benchmark_inputs.BenchmarkClip("00335", clip, 0))
    truth = small_benchmark.dancer(small_benchmark.SEEDS[0])
    masks, frames = truth.mask.numpy(), truth.frames.numpy()
    shown = np.stack([read_picture(file) for file in sorted(prepared.video.iterdir())])
    assert all(np.array_equal(s[m], f[m]) for s, m, f in zip(shown, masks, frames, strict=True))
    nobody = ~masks.any(0)
    assert (shown[:, nobody] == shown[0, nobody]).all()
    left = masks[0] & ~masks[2]  # where the reference's person stood, and the last frame's does not
    assert left.any() and not np.array_equal(shown[2][left], frames[0][left])
    assert prepared.truth is clip


def test_the_pasted_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person of the result, and round them the clip's own background, also where its own person stood."""
    data = small_benchmark.tiktok(tmp_path / "data") / "TikTok_dataset"
    source, other = (small_benchmark.dancer(seed) for seed in small_benchmark.SEEDS[:2])

    def scene(self: Preparation, video: Path, num_frames: int) -> Scene:
        clip = other if video.suffix == ".mp4" else source
        return Scene(clip.frames.numpy(), clip.pose, MaskTrack(clip.mask.numpy()))

    monkeypatch.setattr(Preparation, "_scene", scene)
    folder = data / "00335" / "images"
    clip = ClipFiles("00335", folder, tuple(sorted(folder.iterdir())))
    made = tmp_path / "made.mp4"
    made.write_bytes(b"a result")
    preparation = Preparation(tmp_path / "out", "pasted", benchmark_inputs.SourceVideoSettings("puppet"))
    prepared = Prepared("00335", folder, folder, clip, 3, small_benchmark.SIZE)
    pasted = np.stack(list(preparation.paste(prepared, made).frames()))
    person, hidden = other.mask.numpy(), source.mask.numpy()
    assert np.array_equal(pasted[person], other.frames.numpy()[person])
    far = ~person & ~benchmark_inputs._grown(hidden)
    assert np.abs(pasted[far].astype(int) - source.frames.numpy()[far]).max() <= 1
    gone = hidden & ~person
    assert np.abs(pasted[gone].astype(int) - source.frames.numpy()[gone]).mean() > 20


def test_mistakes(here: Path, tiny_model: Path) -> None:
    (here / "none.txt").write_text("00999\n")
    (here / "far.txt").write_text("00335 7\n")
    for changes, message in (
        ({"background": "pink"}, "--background pink: not known; there are: own, reference, uniform, pasted"),
        ({"background": "reference"}, "--background reference: is for models of Animate Anyone 2"),
        ({"protocol": "mine"}, "--protocol mine: not known"),
        ({"split": here / "none.txt"}, r"holds none of --split .*none.txt \(00999\) but 00001, 00335, 00336, 00337"),
        (
            {"split": here / "far.txt"},
            "none of 1 clips could be made; the first, 00335: has 3 frames, and none of number 7",
        ),
    ):
        with pytest.raises(InputError, match=message):
            run(here, tiny_model, **changes)
    with pytest.raises(InputError, match="--device cuda:1: clips are shared out"):
        check_model(Asked("tiktok", here), Making(str(tiny_model), device="cuda:1"))
