"""From videos to a data set, with an estimator that needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scenedetect")

from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.engines.engine import InProcess, Resources
from animate_anyone.engines.local_pool import LocalPool
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, open_video
from animate_anyone.preparation import work
from animate_anyone.preparation.clip_stages import GOP, crop_of
from animate_anyone.preparation.prepare import Summary, prepare, read_manifest
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.stage import needs
from animate_anyone.structures import MaskTrack, ObjectMark, PoseSequence
from dancers import make_sound
from people import person
from waving import LeftHalf, Waving, video

SETTINGS = PrepareSettings(min_height=64)
Found = Callable[[object], None]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Found]:
    """Makes an estimator the one that is used: :class:`Waving` at first."""

    def use(estimator: object) -> None:
        work.clip_stages.cache_clear()
        monkeypatch.setattr(work, "load_estimator", lambda name, device, **_: estimator)

    monkeypatch.setattr(work, "load_masker", LeftHalf)
    use(Waving())
    yield use
    work.clip_stages.cache_clear()


def _videos(folder: Path) -> Path:
    """Three shots in two videos, and five files that are none."""
    folder.mkdir()
    whole = video(folder / "1.mp4", 30, 36)
    video(folder / "2.mp4", 26, first_seed=9)
    (folder / "3_empty.mp4").touch()
    (folder / "4_cut_off.mp4").write_bytes(whole.read_bytes()[:-400])
    (folder / "5_text.mp4").write_text("no video")
    make_sound(folder / "6_sound.wav", 1.0).rename(folder / "6_sound.mp4")
    with VideoWriter(folder / "7_one.mp4", (64, 64), 12) as out:
        out.write(np.full((64, 64, 3), 90, np.uint8))
    return folder


def _files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(f): (f.stat().st_mtime_ns, f.read_bytes()) for f in sorted(folder.rglob("*")) if f.is_file()}


def _reasons(folder: Path) -> list[str]:
    return [entry.get("reason", entry["status"]) for entry in read_manifest(folder)]


def test_clips_are_kept_and_broken_files_listed(tmp_path: Path, found: Found) -> None:
    summary = prepare([_videos(tmp_path / "in")], tmp_path / "out", SETTINGS)
    entries = list(read_manifest(tmp_path / "out"))
    assert [entry["status"] for entry in entries] == ["kept"] * 3 + ["broken"] * 5
    assert [entry["reason"] for entry in entries[3:]] == [
        "the file is empty",
        entries[4]["reason"],
        "not a video",
        "holds no video stream, only sound",
        "one frame, no video",
    ]
    assert "cut off" in entries[4]["reason"]
    assert (summary.kept, len(summary.broken)) == (3, 5)
    for entry in entries[:3]:
        files = {kind: tmp_path / "out" / about["path"] for kind, about in entry["files"].items()}
        shown, poses = open_video(files["video"]), PoseSequence.load(files["poses"])
        assert shown.info.num_frames == len(poses) == entry["frames"] == entry["stop"] - entry["first"]
        assert (shown.info.width, shown.info.height) == poses.size == (entry["width"], entry["height"])
        assert shown.info.fps == poses.fps == Fraction(entry["fps"]) == 12
        assert shown.timeline is not None
        assert len(shown.timeline.keys) >= entry["frames"] / GOP
        assert files["thumbnail"].is_file()
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img") == 3
    assert "http" not in page


def test_a_second_call_does_nothing(tmp_path: Path, found: Found) -> None:
    prepare([_videos(tmp_path / "in")], tmp_path / "out", SETTINGS)
    before = _files(tmp_path / "out")
    again = prepare([tmp_path / "in"], tmp_path / "out", SETTINGS)
    assert again.made == 0
    assert _files(tmp_path / "out") == before


def test_what_was_lost_or_changed_is_made_again(tmp_path: Path, found: Found) -> None:
    folder = _videos(tmp_path / "in")
    prepare([folder], tmp_path / "out", SETTINGS)
    before = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    next((tmp_path / "out").glob("clips/*/*.mp4")).unlink()
    assert prepare([folder], tmp_path / "out", SETTINGS).made == 1
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == before
    video(folder / "2.mp4", 40, first_seed=9)
    assert prepare([folder], tmp_path / "out", SETTINGS).made == 2  # looked through, and a clip
    assert prepare([folder], tmp_path / "out", PrepareSettings(min_height=65)).made == 7 + 3


class _Stopping(InProcess):
    """An engine that is stopped after so many jobs."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs

    def each(self, function: Any, jobs: Iterable[Any], needs: Any = None) -> Iterator[Any]:
        for job in jobs:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            yield function(job)


@pytest.mark.parametrize("after", [0, 3, 7, 8])
def test_stopped_and_called_again_the_manifest_is_the_same(tmp_path: Path, found: Found, after: int) -> None:
    folder = _videos(tmp_path / "in")
    prepare([folder], tmp_path / "whole", SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        prepare([folder], tmp_path / "out", SETTINGS, engine=_Stopping(after))
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    assert prepare([folder], tmp_path / "out", SETTINGS).made == 7 + 3 - after
    manifests = [(tmp_path / name / "manifest.jsonl").read_bytes() for name in ("whole", "out")]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (Waving(swing=0.0), "too little motion"),
        (Waving(score=0.35), "low confidence"),
        (Waving(score=0.0), "no person"),
        (Waving(scale=0.3), "too small"),
    ],
)
def test_clips_are_dropped_for_a_named_reason(tmp_path: Path, found: Found, estimator: Waving, reason: str) -> None:
    found(estimator)
    summary = prepare([video(tmp_path / "a.mp4", 24)], tmp_path / "out", SETTINGS)
    assert summary.dropped == {reason: 1}
    (entry,) = read_manifest(tmp_path / "out")
    assert entry["reason"] == reason
    assert list(entry["files"]) == ["thumbnail"]


def test_an_estimator_on_a_gpu_asks_for_one(tmp_path: Path, found: Found) -> None:
    on_gpu = PrepareSettings(pose_estimator="rtmlib", device="cuda")
    asked = work.clip_stages(on_gpu)
    assert needs(asked) == Resources(cpus=1.0, gpus=1.0)
    on_cpu = PrepareSettings(pose_estimator="rtmlib")
    assert needs(work.clip_stages(on_cpu)) == Resources(cpus=1.0, gpus=0.0)
    assert on_gpu.digest == on_cpu.digest
    for wrong in ({"device": "tpu"}, {"device": "cuda"}):
        with pytest.raises(InputError, match="--device"):
            PrepareSettings(**wrong)


class _Pair(Waving):
    """Sees somebody else beside the person, once the person is painted over."""

    def estimate_picture(self, picture: np.ndarray) -> PoseSequence:
        return person(1, (400, 600), torso=100.0, neck=(60.0, 200.0)).scaled_to(picture.shape[1::-1])


def test_several_people(tmp_path: Path, found: Found) -> None:
    found(_Pair())
    prepare([video(tmp_path / "a.mp4", 24)], tmp_path / "out", SETTINGS)
    assert _reasons(tmp_path / "out") == ["several people"]


def test_short_shots_and_copies_are_dropped(tmp_path: Path, found: Found) -> None:
    video(tmp_path / "a.mp4", 24, 12)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    prepare([tmp_path], tmp_path / "out", SETTINGS)
    assert _reasons(tmp_path / "out") == ["kept", "too short", "duplicate file"]


def test_frames_are_taken_at_the_rate_asked_for(tmp_path: Path, found: Found) -> None:
    prepare([video(tmp_path / "a.mp4", 72, fps=36)], tmp_path / "out", SETTINGS)
    (entry,) = read_manifest(tmp_path / "out")
    assert (entry["fps"], entry["frames"], entry["stop"]) == ("24", 48, 71)


def test_masks_are_kept_without_loss(tmp_path: Path, found: Found) -> None:
    settings = PrepareSettings(min_height=64, masks=True, max_side=96)
    prepare([video(tmp_path / "a.mp4", 24)], tmp_path / "out", settings)
    (entry,) = read_manifest(tmp_path / "out")
    with np.load(tmp_path / "out" / entry["files"]["masks"]["path"]) as file:
        _, height, width = file["shape"]
        masks = np.unpackbits(file["masks"], axis=2)[:, :, :width].astype(bool)
    assert max(height, width) == 96
    assert masks.shape == (24, height, width)
    assert masks[:, :, : width // 2].all()
    assert not masks[:, :, width // 2 :].any()


class _Box:
    """A locator that finds a box in the middle of the second frame, or nothing."""

    def __init__(self, found: bool = True) -> None:
        self._found = found

    def locate(self, frames: Any) -> list[ObjectMark]:
        height, width = frames[1].shape[:2]
        return [ObjectMark("ball", 1, (width / 4, height / 4, width / 2, height / 2))] if self._found else []


class _InItsBox:
    """A tracker whose masks are the boxes of the marks in all frames."""

    def track(self, frames: Any, marks: Any, progress: Any = None) -> tuple[MaskTrack, ...]:
        masks = np.zeros((len(frames), *frames[0].shape[:2]), bool)
        for mark in marks:
            left, top, right, bottom = (round(side) for side in mark.box)
            masks[:, top:bottom, left:right] = True
        return tuple(MaskTrack(masks, name=mark.name) for mark in marks)


def test_masks_of_objects_are_kept_without_loss(tmp_path: Path, found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_objects", lambda settings: (_Box(), _InItsBox()))
    settings = PrepareSettings(min_height=64, objects="ball", object_weights="dino")
    prepare([video(tmp_path / "a.mp4", 24)], tmp_path / "out", settings)
    (entry,) = read_manifest(tmp_path / "out")
    with np.load(tmp_path / "out" / entry["files"]["objects"]["path"]) as file:
        count, frames, height, width = file["shape"]
        masks = np.unpackbits(file["masks"], axis=3)[..., :width].astype(bool)
        assert file["names"].tolist() == ["ball"]
    assert masks.shape == (1, 24, height, width) == (count, frames, height, width)
    assert masks[:, :, height // 4 + 1 : height // 2 - 1, width // 4 + 1 : width // 2 - 1].all()
    assert not masks[:, :, height // 2 + 1 :].any()
    monkeypatch.setattr(work, "_objects", lambda settings: (_Box(found=False), _InItsBox()))
    work.clip_stages.cache_clear()
    prepare([tmp_path / "a.mp4"], tmp_path / "none", settings)
    (entry,) = read_manifest(tmp_path / "none")
    assert "objects" not in entry["files"]


def test_objects_want_names_and_weights() -> None:
    with pytest.raises(InputError, match="--object-weights FOLDER"):
        PrepareSettings(objects="ball")
    with pytest.raises(InputError, match="--objects ball,: give names"):
        PrepareSettings(objects="ball,", object_weights="dino")


def test_the_crop_holds_the_person_in_every_frame() -> None:
    walk = person(30, (1280, 720), torso=100.0, neck=(300.0, 200.0))
    walk.keypoints[:, :, 0] += np.arange(30)[:, None] * 10
    crop = crop_of(walk)
    points = walk.keypoints[walk.scores >= MIN_SCORE]
    assert crop.left < points[:, 0].min() - 10
    assert crop.left + crop.width > points[:, 0].max() + 10
    assert crop.top < points[:, 1].min() - 10
    assert crop.top + crop.height > points[:, 1].max() + 10
    assert crop.width % 2 == crop.height % 2 == 0
    assert crop.left > 50
    assert crop.left + crop.width < 1000


def test_an_error_of_the_program_stops_nothing_and_is_tried_again(tmp_path: Path, found: Found) -> None:
    class Failing(Waving):
        def estimate(self, frames: Any, *about: Any, **more: Any) -> PoseSequence:
            raise RuntimeError("out of order")

    found(Failing())
    prepare([video(tmp_path / "a.mp4", 24)], tmp_path / "out", SETTINGS)
    assert _reasons(tmp_path / "out") == ["RuntimeError: out of order"]
    found(Waving())
    assert prepare([tmp_path / "a.mp4"], tmp_path / "out", SETTINGS).made == 1
    assert _reasons(tmp_path / "out") == ["kept"]


def test_a_pool_gives_the_same_manifest(tmp_path: Path, found: Found) -> None:
    folder = _videos(tmp_path / "in")
    settings = PrepareSettings(shortest=4.0)  # all shots are too short: no estimator is asked in other processes
    prepare([folder], tmp_path / "one", settings)
    prepare([folder], tmp_path / "two", settings, engine=LocalPool(2))
    manifests = [(tmp_path / name / "manifest.jsonl").read_bytes() for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert json.loads(manifests[0].splitlines()[0])["reason"] == "too short"


def _root(number: int) -> float:
    return float(np.sqrt(number))


def _wrong(number: int) -> float:
    raise InputError(f"{number}: wrong")


def test_a_pool_reads_its_jobs_as_it_goes_and_raises_what_they_raise() -> None:
    begun: list[int] = []
    results = LocalPool(1).each(_root, (begun.append(n) or n for n in range(1, 50)))
    first = next(results)
    assert len(begun) < 10
    assert first + sum(results) == pytest.approx(sum(np.sqrt(range(1, 50))))
    with pytest.raises(InputError, match="3: wrong"):
        list(LocalPool(1).each(_wrong, [3]))


def test_a_summary_names_what_is_wrong() -> None:
    summary = Summary(kept=1, broken=[(f"{n}.mp4", "the file is empty") for n in range(25)])
    lines = summary.lines()
    assert "19.mp4: the file is empty" in lines
    assert "and 5 more, see manifest.jsonl" in lines


def test_no_manifest_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder that `prepare` wrote"):
        list(read_manifest(tmp_path))
    (tmp_path / "manifest.jsonl").write_text('{"status": "kept"}\n{"stat')
    with pytest.raises(InputError, match="damaged at line 2"):
        list(read_manifest(tmp_path))


@pytest.mark.shared
def test_two_seconds_of_a_real_dance(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    dance = open_video(shared_dir / "clips" / "dance.mp4")
    with VideoWriter(tmp_path / "dance.mp4", (270, 480), dance.info.fps) as out:
        for _, frame in dance.frames(range(48)):
            out.write(np.ascontiguousarray(frame[::4, ::4]))
    summary = prepare([tmp_path / "dance.mp4"], tmp_path / "out", PrepareSettings())
    assert summary.kept == 1
    (entry,) = read_manifest(tmp_path / "out")
    assert entry["frames"] == 48
    assert entry["confidence"] > 0.8


def test_some_frames_of_each_video(tmp_path: Path, found: Found) -> None:
    video(tmp_path / "long.mp4", 40, 40)
    video(tmp_path / "short.mp4", 10)
    chosen = PrepareSettings(min_height=64, shortest=1, frames=(12, 72))
    prepare([tmp_path / "long.mp4", tmp_path / "short.mp4"], tmp_path / "out", chosen)
    kept = [(entry["first"], entry["stop"]) for entry in read_manifest(tmp_path / "out")]
    assert kept == [(12, 40), (40, 72)]
    with pytest.raises(InputError, match="--frames 9:3: give A:B with A below B"):
        PrepareSettings(frames=(9, 3))


def test_clips_have_even_sides_and_poses_of_that_size(tmp_path: Path, found: Found) -> None:
    video(tmp_path / "a.mp4", 30)
    prepare([tmp_path / "a.mp4"], tmp_path / "out", PrepareSettings(min_height=64, max_side=101))
    (entry,) = read_manifest(tmp_path / "out")
    size = (entry["width"], entry["height"])
    assert not size[0] % 2 and not size[1] % 2
    assert PoseSequence.load(tmp_path / "out" / entry["files"]["poses"]["path"]).size == size


def test_an_error_while_a_clip_is_written_fails_that_clip_alone(
    tmp_path: Path, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise ValueError("a sum that does not add up")

    monkeypatch.setattr(PoseSequence, "save", fail)
    video(tmp_path / "a.mp4", 30)
    prepare([tmp_path / "a.mp4"], tmp_path / "out", SETTINGS)
    (entry,) = read_manifest(tmp_path / "out")
    assert (entry["status"], entry["reason"]) == ("failed", "ValueError: a sum that does not add up")
    assert "poses" not in entry["files"]
