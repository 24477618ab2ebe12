"""Generated videos against true ones, streamed: one frame of both at a time, whatever their number and length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from animate_anyone.evaluation import weights
from animate_anyone.evaluation.folders import WHOLE, Pair, find_clips, pair_clips, read_split
from animate_anyone.evaluation.image_metrics import l1, psnr, psnr_wrapped, ssim
from animate_anyone.evaluation.protocols import FRAME_METRICS, METRICS, Protocol
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Picture

if TYPE_CHECKING:
    from animate_anyone.evaluation.perceptual import Distribution, Lpips

_OVER_CLIPS = ("fid_vid", "fvd")


def evaluate_videos(
    generated: Path,
    truth: Path,
    protocol: Protocol,
    metrics: Sequence[str] = METRICS,
    *,
    layout: str = "plain",
    split: Path | None = None,
    metric_weights: Path | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a folder of videos.

    Args:
        generated, truth: folders as :func:`.folders.find_clips` reads them, with the same names.
        metrics: of :data:`.protocols.METRICS`.
        split: text file of the names to measure; ``None`` for all.
        metric_weights: folder of the networks' weights, see :func:`.weights.weights_folder`.
        device: of the networks, as in ``animate``.

    Returns:
        The report, plain dictionaries: protocol, what was measured, weights with digests, means (``metrics``), what
        could not be measured and why (``needs``), every video. A mean is ``None`` where every frame is alike
        (PSNR); ``frames_alike`` says how many are, which are left out of PSNR.

    Raises:
        InputError: folders, split or weights that cannot be used, all found before the first frame is measured, or
            a frame that is broken.
    """
    names = None if split is None else read_split(split, layout)
    pairs = pair_clips(find_clips(generated, layout), find_clips(truth, layout), names)
    measured = measure_pairs(pairs, protocol, metrics, metric_weights=metric_weights, device=device, progress=progress)
    for video in measured["videos"]:
        video["name"] = generated.name if video["name"] == WHOLE else video["name"]
    return {
        "animate_anyone": version("animate-anyone"),
        "protocol": protocol.describe(),
        "generated": str(generated),
        "truth": str(truth),
        "layout": layout,
        "split": None if split is None else {"file": split.name, "sha256": weights.sha256(split)},
        **measured,
    }


def measure_pairs(
    pairs: Sequence[Pair],
    protocol: Protocol,
    metrics: Sequence[str] = METRICS,
    *,
    metric_weights: Path | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure pairs of videos; a generated one that has not the true one's size is scaled to it (bicubic, antialiased).

    Args: as of :func:`evaluate_videos`.

    Returns:
        What :func:`evaluate_videos` says of videos and figures: numbers and sizes, ``metrics``, ``needs``, ``clips``,
        ``backbones``, ``videos``.

    Raises:
        InputError: weights that cannot be used, or a frame that is broken.
    """
    folder = weights.weights_folder(metric_weights)
    needs = {metric: why for metric in metrics if (why := _lacks(metric, folder, pairs, protocol))}
    asked = [metric for metric in metrics if metric not in needs]
    meter = _Meter(asked, protocol, folder, device)
    videos = [meter.video(pair) for pair in progress.track(pairs, len(pairs), "videos")]
    means = _means([(video, pair.num_frames) for video, pair in zip(videos, pairs, strict=True)])
    distances, clips = meter.distances()
    return {
        "num_videos": len(pairs),
        "num_frames": sum(pair.num_frames for pair in pairs),
        "sizes": sorted({f"{pair.size[0]}x{pair.size[1]}" for pair in pairs}),
        "metrics": means | distances,
        "needs": needs,
        "clips": clips,
        "backbones": {
            metric: [
                {"file": s.name, "sha256": weights.sha256(weights.file_of(s, folder))} for s in weights.SOURCES[metric]
            ]
            for metric in asked
            if metric in weights.SOURCES
        },
        "videos": [
            {"name": pair.name, "frames": pair.num_frames, "size": [*pair.size]} | video
            for pair, video in zip(pairs, videos, strict=True)
        ],
    }


def frame_figures(generated: Picture, truth: Picture, metrics: Sequence[str], protocol: Protocol) -> dict[str, float]:
    """The figures of one pair of prepared frames that need no network; PSNR infinite where alike."""
    figures: dict[str, float] = {}
    if "psnr" in metrics:
        figures["psnr"] = psnr(generated, truth)
        if protocol.disco_columns:
            figures["psnr_disco"] = psnr_wrapped(generated, truth)
    if "ssim" in metrics:
        figures["ssim"] = ssim(generated, truth)
    if "l1" in metrics:
        figures["l1"] = l1(generated, truth)
        if protocol.disco_columns:
            figures["l1_disco"] = 255 * figures["l1"] / (truth.shape[0] * truth.shape[1])
    return figures


class _Meter:
    """Everything that is measured of a pair of videos, frame by frame."""

    def __init__(self, metrics: Sequence[str], protocol: Protocol, folder: Path, device: str) -> None:
        self._metrics, self._protocol = metrics, protocol
        self._lpips: Lpips | None = None
        self._distributions: dict[str, Distribution] = {}
        learned = [metric for metric in metrics if metric not in FRAME_METRICS]
        if not learned:
            return  # without PyTorch, whose import takes longer than a few videos
        from animate_anyone.evaluation.perceptual import Distribution, Lpips
        from animate_anyone.sampling.placement import choose_device

        chosen = choose_device(device)
        for metric in learned:
            if metric == "lpips":
                self._lpips = Lpips(folder, chosen, protocol.lpips_range)
            else:
                clip = (protocol.clip_length, protocol.clip_stride)
                self._distributions[metric] = Distribution(metric, folder, chosen, *clip)

    def video(self, pair: Pair) -> dict[str, Any]:
        """Means over the frames of one pair; PSNR over those that differ, ``None`` where there are none."""
        sums: dict[str, float] = {}
        alike = 0
        for generated, truth in zip(pair.generated.frames(), pair.truth.frames(), strict=True):
            one, other = self._protocol.prepare(_fitted(generated, truth)), self._protocol.prepare(truth)
            figures = frame_figures(one, other, self._metrics, self._protocol)
            if self._lpips is not None:
                figures["lpips"] = self._lpips(one, other)
            if figures.get("psnr") == math.inf:
                figures["psnr"] = 0.0
                alike += 1
            for name, figure in figures.items():
                sums[name] = sums.get(name, 0.0) + figure
            for distribution in self._distributions.values():
                distribution.add(one, other)
        for distribution in self._distributions.values():
            distribution.end_video()
        means: dict[str, Any] = {name: total / pair.num_frames for name, total in sums.items()}
        if "psnr" in means:
            differ = pair.num_frames - alike
            means |= {"psnr": sums["psnr"] / differ if differ else None, "frames_alike": alike}
        return means

    def distances(self) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
        """The Fréchet distances, and of how many clips and features each."""
        clips = {name: {"clips": d.clips, "features": d.dimension} for name, d in self._distributions.items()}
        return {name: d.distance() for name, d in self._distributions.items()}, clips


def _fitted(generated: Picture, truth: Picture) -> Picture:
    """A generated frame at the true one's size."""
    if generated.shape == truth.shape:
        return generated
    size = truth.shape[1], truth.shape[0]
    return np.asarray(Image.fromarray(generated).resize(size, Image.Resampling.BICUBIC))


def _lacks(metric: str, folder: Path, pairs: Sequence[Pair], protocol: Protocol) -> str | None:
    """Why a metric cannot be measured here; ``None`` where it can."""
    if why := weights.needed(metric, folder):
        return why
    length = protocol.clip_length if metric in _OVER_CLIPS else 1
    if short := [pair.name for pair in pairs if pair.num_frames < length]:
        return f"needs videos of {length} frames at least; shorter: {', '.join(short[:6])}, {len(short)} in all"
    num_clips = sum(1 + (pair.num_frames - length) // protocol.clip_stride for pair in pairs)
    if metric in ("fid", *_OVER_CLIPS) and num_clips < 2:
        return "needs two clips at least: give more or longer videos"
    return None


def _means(videos: Sequence[tuple[dict[str, Any], int]]) -> dict[str, Any]:
    """Over all frames, from each video's means and number of frames."""
    total = sum(frames for _, frames in videos)
    names = [name for name in videos[0][0] if name not in ("psnr", "frames_alike")]
    means: dict[str, Any] = {}
    if "psnr" in videos[0][0]:
        differing = [(video["psnr"], n - video["frames_alike"]) for video, n in videos if video["psnr"] is not None]
        differ = sum(n for _, n in differing)
        means["psnr"] = sum(figure * n for figure, n in differing) / differ if differ else None
        means["frames_alike"] = total - differ
    return means | {name: sum(video[name] * n for video, n in videos) / total for name in names}


_LABELS = {
    "psnr": "PSNR",
    "psnr_disco": "PSNR, DisCo's",
    "ssim": "SSIM",
    "l1": "L1",
    "l1_disco": "L1, DisCo's",
    "lpips": "LPIPS",
    "fid": "FID",
    "fid_vid": "FID-VID",
    "fvd": "FVD",
}


def video_table(report: dict[str, Any]) -> str:
    """The means of a report as lines of text; a line for everything that was asked for."""
    figures, needs = report["metrics"], report["needs"]
    lines = [f"{report['num_videos']} videos, {report['num_frames']} frames, protocol {report['protocol']['name']}"]
    for name, label in _LABELS.items():
        if name in figures:
            lines.append(f"{label:<15}{_shown(name, report)}".rstrip())
        elif name in needs:
            lines.append(f"{label:<15}{needs[name]}")
    return "\n".join(lines)


def _shown(name: str, report: dict[str, Any]) -> str:
    figure, remark = report["metrics"][name], ""
    if name == "psnr":
        alike, total = report["metrics"]["frames_alike"], report["num_frames"]
        if figure is None:
            return f"infinite: all {total} frames are alike"
        remark = f"{alike} of {total} frames are alike and left out" if alike else ""
        return f"{figure:10.2f} dB  {remark}"
    if name == "psnr_disco":
        return f"{figure:10.2f}     of bytes that wrap round, not comparable with PSNR"
    if name == "l1_disco":
        return f"{figure:12.3e}"
    if name in report["clips"]:
        of = report["clips"][name]
        few = of["clips"] <= of["features"]
        remark = f"{of['clips']} clips, fewer than the {of['features']} features wants: too high" if few else ""
        return f"{figure:10.2f}     {remark}"
    return f"{figure:12.4f}"
