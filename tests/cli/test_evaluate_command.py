"""``evaluate --generated`` and ``report``, as they are typed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Shell
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import small_backbones
from animate_anyone.evaluation import perceptual, weights
from animate_anyone.evaluation.image_metrics import psnr_wrapped
from animate_anyone.media import VideoWriter, read_frames

LENGTHS = {"a": 3, "b": 5}
Frames = list[NDArray[np.uint8]]


def scene(seed: int, count: int, noise: float = 0, size: tuple[int, int] = (48, 40)) -> Frames:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    base = [np.stack([x * 4 + n, y * 4, x + y + seed], axis=-1) for n in range(count)]
    return [np.clip(f + generator.normal(0, noise, f.shape), 0, 255).astype(np.uint8) for f in base]


def write(folder: Path, frames: Frames) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


def write_video(file: Path, frames: Frames) -> Frames:
    file.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(file, (frames[0].shape[1], frames[0].shape[0]), 12) as video:
        for frame in frames:
            video.write(frame)
    return [frame for _, frame in read_frames(file)]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside generated and true videos, ``a`` and ``b``; no weights anywhere."""
    monkeypatch.setenv("ANIMATE_ANYONE_METRICS", str(tmp_path / "metrics"))
    for name, count in LENGTHS.items():
        write(tmp_path / "generated" / name, scene(ord(name), count, 20))
        write(tmp_path / "truth" / name, scene(ord(name), count))
    return Shell(tmp_path, monkeypatch, capfd)


SIDES = ("evaluate", "--generated", "generated", "--truth", "truth")


def measured(shell: Shell, *options: str) -> tuple[dict[str, Any], str]:
    result = shell(*SIDES, *options, "--json", "figures.json")
    assert (result.status, result.err) == (0, "")
    text = Path("figures.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    report: dict[str, Any] = json.loads(text)
    return report, result.out


def test_figures_are_those_of_scikit_image(shell: Shell) -> None:
    report, told = measured(shell)
    pairs = {n: list(zip(scene(ord(n), c, 20), scene(ord(n), c), strict=True)) for n, c in LENGTHS.items()}
    every = [pair for video in pairs.values() for pair in video]

    def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.round(picture.astype(np.float64) @ [0.299, 0.587, 0.114]).astype(np.uint8)

    figures = report["metrics"]
    assert set(figures) == {"psnr", "frames_alike", "ssim", "l1"}
    truth = [peak_signal_noise_ratio(t, g, data_range=255) for g, t in every]
    assert figures["psnr"] == pytest.approx(np.mean(truth), abs=1e-9)
    assert figures["ssim"] == pytest.approx(
        np.mean([structural_similarity(grey(t), grey(g)) for g, t in every]), abs=1e-4
    )
    absolute = [np.abs(g.astype(np.float64) - t).mean() / 255 for g, t in every]
    assert figures["l1"] == pytest.approx(np.mean(absolute), abs=1e-12)
    assert [(v["name"], v["frames"], v["size"]) for v in report["videos"]] == [("a", 3, [48, 40]), ("b", 5, [48, 40])]
    assert report["videos"][1]["psnr"] == pytest.approx(np.mean(truth[3:]), abs=1e-9)
    assert report["protocol"]["name"] == "clean"
    assert (report["num_videos"], report["num_frames"], report["sizes"]) == (2, 8, ["48x40"])
    assert report["animate_anyone"]
    assert f"{figures['psnr']:.2f} dB" in told
    assert f"{figures['ssim']:.4f}" in told


def test_what_lacks_weights_is_told_with_the_line_that_gets_them(shell: Shell) -> None:
    report, told = measured(shell)
    assert list(report["needs"]) == ["lpips", "fid", "fid_vid", "fvd"]
    assert report["backbones"] == {}
    lines = told.splitlines()
    for label, file in (
        ("LPIPS ", "vgg16-397923af.pth and lpips_v0.1_vgg.pth"),
        ("FID ", "pt_inception-2015-12-05-6726825d.pth"),
        ("FID-VID ", "resnet-50-kinetics.pth"),
        ("FVD ", "i3d_pretrained_400.pt"),
    ):
        line = next(line for line in lines if line.startswith(label))
        assert f"needs {file}; type: animate-anyone models pull {label.strip().lower()} -o" in line
    report, told = measured(shell, "--metrics", "l1,fvd")
    assert (list(report["metrics"]), list(report["needs"])) == (["l1"], ["fvd"])
    assert "PSNR" not in told


def test_learned_measures(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "SHRINK", small_backbones.SHRINK)
    folder = small_backbones.save_all(shell.folder / "weights")
    for side, noise in (("generated", 20), ("truth", 0)):
        write(shell.folder / side / "c", scene(1, 34, noise))
    options = ("--metric-weights", str(folder), "--device", "cpu")
    report, told = measured(shell, *options)
    assert set(report["needs"]) == {"fid_vid", "fvd"}
    assert report["needs"]["fvd"] == "needs videos of 16 frames at least; shorter: a, b, 2 in all"
    assert "needs videos of 16 frames" in told
    assert report["metrics"]["lpips"] > 0
    assert report["metrics"]["fid"] > 0
    assert report["clips"] == {"fid": {"clips": 42, "features": 256}}
    Path("split.txt").write_text("c\n")
    report, told = measured(shell, *options, "--split", "split.txt", "--metrics", "fid-vid,fvd")
    assert set(report["metrics"]) == {"fid_vid", "fvd"}
    assert report["clips"]["fvd"] == {"clips": 2, "features": 400}
    assert report["metrics"]["fvd"] > 0
    assert "2 clips, fewer than the 400 features" in told
    (used,) = report["backbones"]["fvd"]
    assert used == {"file": weights.I3D.name, "sha256": weights.sha256(folder / weights.I3D.name)}
    assert report["split"]["sha256"] == weights.sha256(Path("split.txt"))
    (folder / weights.I3D.name).write_bytes(b"half a file")
    assert "i3d_pretrained_400.pt: " in shell.refused(*SIDES, *options, "--split", "split.txt", "--metrics", "fvd")


def test_disco_legacy(shell: Shell) -> None:
    report, told = measured(shell, "--protocol", "disco-legacy")
    figures = report["metrics"]
    assert {"psnr", "psnr_disco", "ssim", "l1", "l1_disco"} <= set(figures)
    pairs = []
    for name, count in LENGTHS.items():
        for sides in zip(scene(ord(name), count, 20), scene(ord(name), count), strict=True):
            squares = [Image.fromarray(f[:, 4:44]).resize((256, 256), Image.Resampling.BILINEAR) for f in sides]
            pairs.append([np.asarray(s) for s in squares])
    assert figures["psnr_disco"] == pytest.approx(np.mean([psnr_wrapped(a, b) for a, b in pairs]))
    assert figures["psnr"] == pytest.approx(np.mean([peak_signal_noise_ratio(b, a) for a, b in pairs]))
    assert report["protocol"]["resolution"] == [256, 256]
    assert "PSNR, DisCo's" in told
    assert "not comparable with PSNR" in told


def test_frames_that_are_alike(shell: Shell) -> None:
    """No infinity is hidden in a mean: they are left out and counted."""
    shutil.copy("truth/a/0.png", "generated/a/0.png")
    shutil.rmtree("generated/b")
    shutil.copytree("truth/b", "generated/b")
    report, told = measured(shell)
    differ = list(zip(scene(ord("a"), 3, 20), scene(ord("a"), 3), strict=True))[1:]
    want = np.mean([peak_signal_noise_ratio(t, g) for g, t in differ])
    assert report["metrics"]["psnr"] == pytest.approx(want, abs=1e-9)
    assert report["metrics"]["frames_alike"] == 6
    assert [(v["frames_alike"], v["psnr"] is None) for v in report["videos"]] == [(1, False), (5, True)]
    assert "6 of 8 frames are alike and left out" in told
    shutil.rmtree("generated/a")
    shutil.copytree("truth/a", "generated/a")
    report, told = measured(shell)
    assert (report["metrics"]["psnr"], report["metrics"]["ssim"], report["metrics"]["l1"]) == (None, 1.0, 0.0)
    assert "infinite: all 8 frames are alike" in told


def test_videos_beside_frames(shell: Shell) -> None:
    decoded = write_video(shell.folder / "films" / "a.mp4", scene(ord("a"), 3))
    Path("split.txt").write_text("a.mp4\n")
    result = shell(
        "evaluate", "--generated", "films", "--truth", "truth", "--split", "split.txt", "--metrics", "psnr",
        "--json", "figures.json",
    )  # fmt: skip
    assert result.status == 0
    want = np.mean([peak_signal_noise_ratio(t, d) for d, t in zip(decoded, scene(ord("a"), 3), strict=True)])
    assert math.isfinite(want)
    assert json.loads(Path("figures.json").read_text())["metrics"]["psnr"] == pytest.approx(want)


def test_mistakes(shell: Shell) -> None:
    Path("empty").mkdir()
    Path("split.txt").write_text("a\nz\n")
    for arguments, message in (
        (["--generated", "generated"], "--generated alone: there is nothing to compare with; give --truth too"),
        (["--truth", "truth"], "--truth alone: there is nothing to compare with; give --generated too"),
        ([*SIDES[1:], "--suite", "puppet"], "--suite goes with a suite, not with --generated"),
        ([*SIDES[1:], "--characters", "3"], "--characters goes with a suite, not with --generated"),
        (["--metrics", "psnr"], "--metrics goes with --generated; give that too, or leave it out"),
        (["--reference", "me.png"], "--reference goes with --generated; give that too"),
        ([*SIDES[1:], "--reference", "me.png"], "--reference is for videos without truth; leave it or --truth out"),
        (["--generated", "generated", "--reference", "me.png", "--protocol", "clean"], "--protocol goes with --truth"),
        (["--generated", "generated", "--reference", "nowhere.png"], "--reference nowhere.png: is not there"),
        ([*SIDES[1:], "--metrics", "psnr,taste"], "--metrics psnr,taste: taste is not known"),
        ([*SIDES[1:], "--protocol", "mine"], "--protocol mine: not known; there are: clean, disco-legacy"),
        ([*SIDES[1:], "--layout", "mine"], "--layout mine: not known; there are: plain, ubc, tiktok"),
        ([*SIDES[1:], "--split", "split.txt"], "the generated videos lack z; the true videos lack z"),
        ([*SIDES[1:], "--split", "nowhere.txt"], "--split nowhere.txt: cannot be read"),
        ([*SIDES[1:], "--json", "nowhere/figures.json"], "there is no folder nowhere"),
        ([*SIDES[1:], "--json", "figures.txt"], "end the name in .json"),
        (["--generated", "nowhere", "--truth", "truth"], "nowhere: no such folder"),
        (["--generated", "empty", "--truth", "truth"], "empty: no videos"),
    ):
        assert message in shell.refused("evaluate", *arguments)


def test_videos_that_do_not_match(shell: Shell) -> None:
    write(shell.folder / "truth" / "c", scene(1, 2))
    assert "the generated videos lack c:" in shell.refused(*SIDES)
    write(shell.folder / "generated" / "c", scene(1, 3))
    write(shell.folder / "generated" / "d", scene(1, 2))
    write(shell.folder / "truth" / "d", scene(1, 2, size=(64, 40)))
    told = shell.refused(*SIDES)
    assert "lengths differ: c (3 and 2 frames); sizes differ: d (48×40 and 64×40 pixels)" in told


def test_broken_videos(shell: Shell) -> None:
    write_video(shell.folder / "films" / "a.mp4", scene(ord("a"), 3))
    file = Path("films/a.mp4")
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no video at all"):
        file.write_bytes(content)
        told = shell.refused("evaluate", "--generated", "films", "--truth", "films", "--json", "figures.json")
        assert "films/a.mp4" in told
    Path("generated/b/4.png").write_bytes(b"\x89PNG broken")
    assert "generated/b/4.png" in shell.refused(*SIDES, "--json", "figures.json")


def test_report(shell: Shell) -> None:
    measured(shell, "--protocol", "disco-legacy")
    Path("figures.json").rename("mine.json")
    result = shell("report", "mine.json", "--table", "tiktok")
    assert (result.status, result.err) == (0, "")
    assert "| Animate Anyone 2 | 0.778 | 29.82 |" in result.out
    figures = json.loads(Path("mine.json").read_text())["metrics"]
    assert f"| **mine (ours)** | {figures['ssim']:.3f} | {figures['psnr_disco']:.2f} |" in result.out
    assert "fvd not measured" in result.out
    assert "give --table and one of ubc, tiktok" in shell.refused("report", "mine.json")
    assert "nowhere.json: cannot be read" in shell.refused("report", "nowhere.json", "--table", "ubc")
    measured(shell)
    assert "several protocols" in shell.refused("report", "mine.json", "figures.json", "--table", "ubc")
    assert "[^1]: Protocol clean" in shell("report", "figures.json", "--table", "ubc").out
