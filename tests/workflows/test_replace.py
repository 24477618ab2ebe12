"""The workflow of Animate Anyone 2 on a tiny model: a picture and a video in, a video of the character in it out."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace as changed
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import replaced
import tiny
from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.environment import EMPTY, feather, formulate
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.errors import InputError
from animate_anyone.first_guess import frames as guessed
from animate_anyone.media import VideoWriter, probe, read_frames, read_picture
from animate_anyone.models import autoencoding
from animate_anyone.perception.person.people import who_was_taken
from animate_anyone.progress import SILENT, Item, Progress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import MaskTrack, PoseSequence, Scene, Subject
from animate_anyone.system import frame_sequence
from animate_anyone.workflows import settings as shared
from animate_anyone.workflows import source_video
from animate_anyone.workflows.animate import Settings as AnimateSettings
from animate_anyone.workflows.animate import animate
from animate_anyone.workflows.compositing import Compositor, environment_psnr
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.replace import Settings, dry_run, replace
from animate_anyone.workflows.scene_conditions import SceneConditions, letterbox_masks, make_conditions
from animate_anyone.workflows.settings import Report
from animate_anyone.workflows.source_video import CLOSE_UP, Networks, crop_to_character

Run = Any


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aa2") / "model"
    tiny.environment_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def run(model: Path, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Replace the dancer by ``me.png`` in one step; returns path and report of a new video."""
    taken = itertools.count()

    def run(
        empty: tuple[int, ...] = (), progress: Any = SILENT, name: str | None = None, **settings: Any
    ) -> tuple[Path, Report]:
        replaced.look_with(monkeypatch, dancers, empty)
        options = Settings(**{"model": str(model), "steps": 1, "guidance": 1.0, "device": "cpu", **settings})
        output = tmp_path / (name or f"{next(taken)}.mp4")
        return output, replace(dancers / "me.png", dancers / "dance.mp4", output, options, progress=progress)

    yield run


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """Frames as they are handed to the encoder."""
    frames: list[NDArray[np.uint8]] = []

    class Recorder(VideoWriter):
        def write(self, frame: NDArray[np.uint8], time: float | None = None) -> None:
            frames.append(frame.copy())
            super().write(frame, time)

    monkeypatch.setattr(shared, "VideoWriter", Recorder)
    return frames


def source_frames(dancers: Path) -> NDArray[np.uint8]:
    return np.stack([frame for _, frame in read_frames(dancers / "dance.mp4")])


def test_the_video(run: Run, written: list[NDArray[np.uint8]]) -> None:
    path, report = run()
    info = probe(path)
    assert (info.num_frames, info.fps, info.width, info.height, info.has_audio) == (12, 12, 64, 64, True)
    assert np.std(written) > 5
    text = "\n".join(report.lines)
    assert "person found in 12 of 12 frames" in text
    assert "people in frame 0: one" in text
    assert "person: mask jumps in frame 3" in text
    assert "nobody to replace" not in text
    assert "dB as the model made it; to keep it exactly: --keep-background" in text
    assert set(report.seconds) == {"seeing", "conditions", "making frames"}
    first = np.stack(written)
    run()
    assert np.array_equal(written[12:], first)
    run(seed=1)
    assert not np.array_equal(written[24:], first)


def test_frames_and_size_and_continuation(run: Run, written: list[NDArray[np.uint8]]) -> None:
    info = probe(run(frames=slice(0, 5), size=(72, 64))[0])
    assert (info.num_frames, info.width, info.height) == (5, 64, 64)  # the margins are cut off
    written.clear()
    run(continuation=2, steps=2)
    run(steps=2)
    assert not np.array_equal(written[8:12], written[20:])


def test_background_is_kept_bit_for_bit(run: Run, dancers: Path, written: list[NDArray[np.uint8]]) -> None:
    path, report = run(keep_background=True, feather=3)
    source = source_frames(dancers)
    assert probe(path).width == 256
    masks = replaced.Boxes().mask([], replaced.Truth(dancers).dance).masks
    for frame, own, mask in zip(written, source, masks, strict=True):
        # Blocks of 10 pixels of the model's 64, that is 40 here, and the feather are all that the region may add.
        near = feather(mask[None], 48)[0] > 0
        assert np.array_equal(frame[~near], own[~near])
        assert (frame[mask] != own[mask]).mean() > 0.5
    assert any("the video's own pixels were kept" in line for line in report.lines)


def test_the_part_around_the_person_alone(
    run: Run, dancers: Path, written: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model sees the part; what lies beside it is the video's own, and the size is the video's."""
    asked: list[tuple[tuple[int, ...], tuple[int, int]]] = []

    def around(masks: NDArray[np.bool_], size: tuple[int, int]) -> Crop:
        asked.append((masks.shape, size))
        return Crop(64, 32, 112, 224)

    monkeypatch.setattr(Crop, "around", around)
    path, report = run(crop=True, frames=slice(0, 4), size=(64, 128))
    assert (probe(path).width, probe(path).height) == (256, 256)
    source, masks = source_frames(dancers)[:4], replaced.Boxes().mask([], replaced.Truth(dancers).dance).masks[:4]
    assert asked == [((4, 256, 256), (64, 128))]
    beside = np.ones((256, 256), bool)
    beside[32:, 64:176] = False
    for frame, own, mask in zip(written, source, masks, strict=True):
        assert np.array_equal(frame[beside], own[beside])
        assert (frame[mask & ~beside] != own[mask & ~beside]).mean() > 0.5
    assert any("the video's own pixels were kept" in line for line in report.lines)


@pytest.mark.parametrize("keep_background", [True, False])
def test_frames_without_a_person_are_the_videos_own(
    run: Run, dancers: Path, written: list[NDArray[np.uint8]], keep_background: bool
) -> None:
    _, report = run(empty=(0, 1), keep_background=keep_background)
    assert "nobody to replace in frame 0, 1: the video's own frame stands there" in report.lines
    assert not any("no person in frame" in line for line in report.lines)
    own = source_frames(dancers)
    if not keep_background:
        own = np.stack([Letterbox.into((256, 256), (64, 64)).apply(frame) for frame in own])
    assert np.array_equal(written[:2], own[:2])
    assert not np.array_equal(written[2], own[2])


def scene_of(size: tuple[int, int], dancers: Path) -> Scene:
    """The dancer of two frames in a noisy video of another aspect, a ball beside."""
    width, height = size
    pose = PoseSequence.load(dancers / "dance.npz")[:2].scaled_to((height, height))
    pose = changed(pose, size=size)
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    ball = np.zeros((2, height, width), bool)
    ball[1, :20, -20:] = True
    return Scene(frames, pose, replaced.Boxes().mask(frames, pose), (MaskTrack(ball, "ball"),))


def subject_of(dancers: Path) -> Subject:
    return Subject(read_picture(dancers / "me.png"), PoseSequence.load(dancers / "me.npz"))


@pytest.fixture(scope="module")
def pipeline(model: Path) -> AnimateAnyone2Pipeline:
    pipeline = load_pipeline(model, "cpu")
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    return pipeline


def given(scene: Scene, subject: Subject, pipeline: AnimateAnyone2Pipeline) -> SceneConditions:
    letterbox = Letterbox.into(scene.pose.size, (64, 64))
    return replaced.as_arrays(make_conditions(scene, subject, letterbox, (64, 64), pipeline))


def test_conditions(dancers: Path, pipeline: AnimateAnyone2Pipeline) -> None:
    """A wide video: margins above and below, which are neither person nor made."""
    scene = scene_of((256, 128), dancers)
    conditions = given(scene, subject_of(dancers), pipeline)
    assert (conditions.letterbox.inner, conditions.letterbox.top) == ((64, 32), 16)
    small = np.asarray(letterbox_masks(scene.person.masks, conditions.letterbox))
    assert np.array_equal(conditions.mask, formulate(small, "shape_agnostic"))
    assert conditions.mask.any((1, 2)).all() and not conditions.mask[:, :16].any()
    assert (conditions.environment[conditions.mask] == EMPTY).all()
    assert np.array_equal(conditions.environment[~conditions.mask], conditions.source[~conditions.mask])
    assert conditions.objects is not None and conditions.object_mask is not None
    assert conditions.object_mask.sum((1, 2)).tolist() == [0, 25]
    assert conditions.object_mask[1, 16:21, -5:].all()
    assert (conditions.objects[~conditions.object_mask] == EMPTY).all()
    assert np.array_equal(conditions.objects[conditions.object_mask], conditions.source[conditions.object_mask])
    assert conditions.skeletons.shape == (2, 128, 128, 3)
    assert conditions.reference_pose is not None and conditions.reference_pose.any()


def test_depth_means_the_same_in_a_frame_with_margins(dancers: Path, pipeline: AnimateAnyone2Pipeline) -> None:
    scene = scene_of((256, 128), dancers)
    assert scene.pose.depth is not None
    conditions = given(scene, subject_of(dancers), pipeline)
    plain = draw_limb_depth(scene.pose, (128, 64), style="scaled")
    assert conditions.depth is not None
    both = (conditions.depth[:, 32:96] > 0) & (plain > 0)
    assert both.sum() > 100
    assert np.abs(conditions.depth[:, 32:96] - plain)[both].mean() < 0.02
    assert plain[both].std() > 0.03


def test_masks_hold_everything_of_the_person() -> None:
    mask = np.zeros((1, 100, 50), bool)
    mask[0, 10, 10] = mask[0, 99, 49] = True
    placed = np.asarray(letterbox_masks(mask, Letterbox.into((50, 100), (40, 40))))
    assert placed.sum() in (2, 3, 4)
    assert placed[0, 4, 10 + 4] and placed[0, 39, 29]
    assert not placed[0, :, :10].any() and not placed[0, :, 30:].any()


def conditions_of(region: NDArray[np.bool_], source: NDArray[np.uint8]) -> SceneConditions:
    letterbox = Letterbox.into((32, 16), (16, 16))
    nothing = np.zeros((1, 1, 1, 3), np.uint8)
    return SceneConditions(
        environment=source,
        mask=region,
        region=region,
        letterbox=letterbox,
        reference=nothing[0],
        reference_pose=None,
        source=source,
        made=region,
        skeletons=nothing,
    )


def test_psnr_is_of_the_environment_alone() -> None:
    source = np.full((1, 16, 16, 3), 100, np.uint8)
    region = np.zeros((1, 16, 16), bool)
    assert environment_psnr(source[0], conditions_of(region, source), 0) == []
    region[0, 6:10, 4:8] = True
    made = source[0].copy()
    made[region[0]] = 0
    made[:4] = made[12:] = 0  # margins
    assert environment_psnr(made, conditions_of(region, source), 0) == [np.inf]
    made[5, :, :] = 110
    wrong = 16 / (8 * 16 - 16)
    assert environment_psnr(made, conditions_of(region, source), 0)[0] == pytest.approx(
        -10 * np.log10(wrong * (10 / 255) ** 2)
    )


def test_what_is_composed_covers_the_person(dancers: Path) -> None:
    """Of a person that the model's region just misses nothing is left in the result."""
    frames = np.full((1, 16, 32, 3), 200, np.uint8)
    person = np.zeros((1, 16, 32), bool)
    person[0, 3:9, 5:9] = True
    pose = changed(scene_of((256, 128), dancers).pose[:1], size=(32, 16))
    region = np.zeros((1, 16, 16), bool)
    region[0, 6:8, 3:5] = True
    made = np.full((16, 16, 3), 10, np.uint8)
    conditions = conditions_of(region, np.full((1, 16, 16, 3), 200, np.uint8))
    scene = Scene(frames, pose, MaskTrack(person))
    whole = Crop.whole((32, 16))
    result = Compositor(scene, whole, conditions, feather=0).compose_frame(made, 0)
    assert result.shape == (16, 32, 3)
    changed_pixels = (result == 10).all(-1)
    assert changed_pixels[person[0]].all()
    assert changed_pixels[4:8, 6:10].all()
    assert (result[~changed_pixels] == 200).all()
    assert Compositor(scene, whole, conditions, feather=None).compose_frame(made, 0).shape == (8, 16, 3)


def test_character_close_up(dancers: Path) -> None:
    picture, pose = read_picture(dancers / "me.png"), PoseSequence.load(dancers / "me.npz")
    subject, lines = crop_to_character(picture, pose, replaced.Boxes(), replaced.Truth(dancers))
    mask = replaced.Boxes().mask([picture], pose).masks[0]
    longer = max(np.ptp(np.flatnonzero(mask.any(axis))) + 1 for axis in (0, 1))
    side = subject.picture.shape[0]
    assert lines == [] and subject.picture.shape == (side, side, 3)
    assert side == round(CLOSE_UP * longer)
    assert subject.pose is not None and subject.pose.size == (side, side)
    moved = pose.keypoints[0] - subject.pose.keypoints[0]
    assert np.ptp(moved, axis=0).max() < 1e-3
    x, y = (int(v) for v in subject.pose.keypoints[0, 1])
    left, top = (round(float(v)) for v in moved[0])
    assert np.array_equal(subject.picture[y, x], picture[y + top, x + left])
    assert subject.silhouette is not None and subject.silhouette.shape == (side, side)
    assert subject.silhouette.sum() == mask.sum()
    assert subject.silhouette[y, x]
    nobody = changed(pose, scores=np.zeros_like(pose.scores))
    subject, lines = crop_to_character(picture, nobody, replaced.Boxes(), replaced.Truth(dancers))
    assert np.array_equal(subject.picture, picture) and len(lines) == 1


def test_a_model_without_a_first_guess_needs_no_silhouette(dancers: Path) -> None:
    """The square comes from the skeleton: about that of the character's own outline."""
    picture, pose = read_picture(dancers / "me.png"), PoseSequence.load(dancers / "me.npz")
    by_mask, _ = crop_to_character(picture, pose, replaced.Boxes(), replaced.Truth(dancers))
    subject, lines = crop_to_character(picture, pose, None, replaced.Truth(dancers))
    assert lines == [] and subject.silhouette is None and subject.pose is not None
    assert subject.picture.shape[0] == subject.picture.shape[1]
    nobody = changed(pose, scores=np.zeros_like(pose.scores))
    subject, lines = crop_to_character(picture, nobody, None, replaced.Truth(dancers))
    assert np.array_equal(subject.picture, picture) and len(lines) == 1
    assert by_mask.silhouette is not None


def test_who_was_taken(dancers: Path) -> None:
    pose = PoseSequence.load(dancers / "dance.npz")[:1]
    other = changed(pose, keypoints=pose.keypoints + 60)
    assert who_was_taken([pose], pose, 0, 0) == "people in frame 0: one"
    assert "2; person 0 by size was taken; another: --person N" in who_was_taken([pose, other], pose, 0, 0)
    assert "person 1 by size was taken, though it should be 0" in who_was_taken([other, pose], pose, 0, 0)


def marks(folder: Path, frame: int = 0) -> str:
    path = folder / "marks.json"
    ball = {"name": "ball", "marks": [{"frame": frame, "box": [10, 10, 60, 60]}]}
    path.write_text(json.dumps({"objects": [ball]}))
    return str(path)


def test_objects(run: Run, tmp_path: Path, written: list[NDArray[np.uint8]]) -> None:
    _, report = run(objects=marks(tmp_path), frames=slice(0, 4))
    assert any(line.startswith("objects: ball in 4 of 4 frames") for line in report.lines), report.lines
    run(frames=slice(0, 4))
    assert not np.array_equal(written[:4], written[4:])


def test_keep(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    run(objects=marks(tmp_path), keep=folder, frames=slice(0, 4))
    names = {"poses.npz", "character.png", "report.json"}
    names |= {f"{name}.mp4" for name in ("source", "masks", "environment", "objects", "skeletons", "depth")}
    assert {file.name for file in folder.iterdir()} == names
    assert probe(folder / "masks.mp4").num_frames == 4
    assert len(PoseSequence.load(folder / "poses.npz")) == 4


class Interrupted(Progress):
    """Stopped by the user in the middle of a part of the work."""

    def __init__(self, description: str, after: int = 1) -> None:
        self.description, self.after = description, after

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        for number, item in enumerate(items):
            if description == self.description and number == self.after:
                raise KeyboardInterrupt
            yield item


@pytest.mark.parametrize("description", ["denoise", "frames"])
def test_an_interrupt_leaves_nothing_of_one_window(run: Run, tmp_path: Path, description: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(progress=Interrupted(description), steps=2, window=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("continuation", [0, 2])
def test_stopped_and_begun_again(run: Run, tmp_path: Path, continuation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found in the video is not looked for again, frames that were finished are not made again."""
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", 64 * 64)
    options: dict[str, Any] = {"steps": 2, "window": 5, "overlap": 2, "continuation": continuation}
    whole, report = run(**options)
    left = tmp_path / "out.mp4.unfinished"
    for frames in (0, 4, 8):
        with pytest.raises(KeyboardInterrupt):
            run(name="out.mp4", progress=Interrupted("frames", frames), **options)
        assert (left / "found.zip").is_file()
        monkeypatch.setattr("animate_anyone.workflows.replace.decompose", lambda *_: pytest.fail("it is known"))
    again, told = run(name="out.mp4", **options)
    assert again.read_bytes() == whole.read_bytes() and not left.exists()
    remark = next(line for line in told.lines if "were finished" in line)
    assert re.search(r": [4-8] frames were finished, and are not made again", remark)
    assert [line for line in told.lines[:-1] if line != remark] == report.lines[:-1]


def test_nobody_in_the_video(run: Run) -> None:
    with pytest.raises(InputError, match="no person was found in any of the 12 frames"):
        run(empty=tuple(range(12)))


def test_each_verb_refuses_the_others_models(
    run: Run, tiny_model: Path, model: Path, dancers: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is a model of Animate Anyone; type `animate-anyone animate`"):
        run(model=str(tiny_model))
    with pytest.raises(InputError, match="is a model of Animate Anyone 2; type `animate-anyone replace`"):
        animate(dancers / "me.png", dancers / "dance.npz", tmp_path / "out.mp4", AnimateSettings(model=str(model)))


def test_a_model_that_is_given_the_character_in_its_place(run: Run, tmp_path: Path, dancers: Path) -> None:
    folder = tmp_path / "carrying"
    tiny.environment_pipeline(reference_latents=True, carried_reference=True, keep_detail=True).save_pretrained(folder)
    (mended, report), (alone_path, _) = (
        run(model=str(folder), frames=slice(0, 3), first_guess=alone, keep=tmp_path / "kept") for alone in (False, True)
    )
    info = probe(mended)
    assert (info.num_frames, info.width, info.height) == (3, 256, 256)  # the video's shape; the networks' is smaller
    assert probe(tmp_path / "kept" / "environment.mp4").width == 64
    assert any(line.startswith("environment outside the mask: the video's own pixels") for line in report.lines)
    assert mended.read_bytes() != alone_path.read_bytes()
    carrying = load_pipeline(folder, "cpu")
    assert isinstance(carrying, AnimateAnyone2Pipeline)
    scene, subject = scene_of((256, 128), dancers), subject_of(dancers)
    conditions = given(scene, subject, carrying)
    assert conditions.first_guess is not None
    guess = np.stack(list(conditions.first_guess))
    person = np.asarray(letterbox_masks(scene.person.masks, conditions.letterbox))
    assert conditions.object_mask is not None and conditions.objects is not None
    elsewhere = ~conditions.mask & ~conditions.object_mask
    assert np.array_equal(guess[elsewhere], conditions.environment[elsewhere])
    assert np.array_equal(guess[conditions.object_mask], conditions.objects[conditions.object_mask])
    alone = given(scene, changed(subject, pose=None), carrying).first_guess
    assert alone is not None  # without a pose nothing of the character comes
    assert (guess != np.stack(list(alone))).any(-1)[person & ~conditions.object_mask].mean() > 0.5
    assert conditions.unseen is not None and not (conditions.unseen & ~conditions.mask).any()


def test_what_waits_on_the_disk_changes_nothing(
    run: Run, tmp_path: Path, written: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames and conditions are the same whether all of a short clip stays in memory or next to nothing."""
    folder = tmp_path / "carrying"
    tiny.environment_pipeline(reference_latents=True, carried_reference=True, keep_detail=True).save_pretrained(folder)
    options = {"model": str(folder), "frames": slice(0, 4), "objects": marks(tmp_path), "crop": True, "size": (96, 96)}
    _, report = run(**options, keep=tmp_path / "kept")
    first = written.copy()
    written.clear()
    monkeypatch.setattr(frame_sequence, "KEPT_BYTES", 1)
    monkeypatch.setattr(guessed, "KEPT_BYTES", 1)
    _, other = run(**options, keep=tmp_path / "again")
    assert all(np.array_equal(one, same) for one, same in zip(written, first, strict=True))
    assert other.lines[:-1] == report.lines[:-1]
    for file in (tmp_path / "kept").glob("*.mp4"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_the_first_guess_of_a_model_without_one_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="begins with noise alone; leave --first-guess out"):
        run(first_guess=True)


def test_a_model_without_objects_or_depth(run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    tiny.environment_pipeline(object_blending="none", modulated=False).save_pretrained(plain)
    assert probe(run(model=str(plain), frames=slice(0, 3))[0]).num_frames == 3
    with pytest.raises(InputError, match="trained without objects; leave --objects out"):
        run(model=str(plain), objects=marks(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masker": "eyes"}, "there is no masker 'eyes'; there are: mediapipe, grabcut, sam2"),
        ({"tracker": "eyes"}, "there is no tracker 'eyes'"),
        ({"person": -1}, "person -1"),
        ({"feather": 999}, "feather 999"),
        ({"size": (65, 64)}, "size 65x64"),
        ({"steps": 0}, "steps and window batch"),
        ({"pose_estimator": "eyes"}, "no pose estimator 'eyes'"),
        ({"offload": "half"}, "offload 'half'"),
    ],
)
def test_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)


def test_timing_is_the_videos(run: Run) -> None:
    assert probe(run(frames=slice(0, 12, 2))[0]).fps == Fraction(6)


def test_a_model_that_wants_depth_refuses_an_estimator_without_at_once(
    model: Path, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_looks(*_: object, **__: object) -> None:
        raise AssertionError("the work had begun")

    monkeypatch.setattr(source_video, "load_estimator", nobody_looks)
    monkeypatch.setattr(source_video, "load_masker", nobody_looks)
    settings = Settings(model=str(model), device="cpu", pose_estimator="rtmlib")
    for verb in (replace, dry_run):
        with pytest.raises(InputError, match="rtmlib have no depth; give --pose-estimator mediapipe, or --depth F"):
            verb(dancers / "me.png", dancers / "dance.mp4", tmp_path / "out.mp4", settings)


def test_weights_that_are_missing_are_reported_before_anything_is_loaded(
    model: Path, dancers: Path, tmp_path: Path
) -> None:
    for more, message in (
        ({"masker": "sam2"}, "sam2 needs weights"),
        ({"tracker": "sam2", "objects": marks(tmp_path)}, "sam2 needs weights"),
        ({"objects": "ball", "object_weights": tmp_path}, "no config.json there"),
    ):
        settings = Settings(model=str(model), device="cpu", **more)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            dry_run(dancers / "me.png", dancers / "dance.mp4", tmp_path / "out.mp4", settings)


class StandIn:
    """A network that records where it was put."""

    def __init__(self, name: str, places: list[tuple[str, str]]) -> None:
        self.name, self.places = name, places

    def eval(self) -> StandIn:
        return self

    def to(self, device: str) -> StandIn:
        self.places.append((self.name, str(device)))
        return self


def test_every_network_is_put_where_the_model_is_and_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    places: list[tuple[str, str]] = []

    def load(class_name: str, *_: object) -> StandIn:
        return StandIn(class_name, places)

    def whole_body(device: str, **_: object) -> None:
        places.append(("Wholebody", device))

    for module in ("sam2", "objects.locators"):
        monkeypatch.setattr(f"animate_anyone.perception.{module}.load_network", load)
    monkeypatch.setattr("animate_anyone.perception.objects.locators.load_processor", lambda *_: None)
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(Wholebody=whole_body))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(get_available_providers=lambda: providers))
    monkeypatch.setattr(
        "animate_anyone.sampling.placement.choose_device", lambda name: torch.device("cpu" if name == "auto" else name)
    )
    (tmp_path / "network.onnx").touch()
    settings = Settings(
        masker="sam2",
        tracker="sam2",
        objects="ball",
        object_weights=tmp_path,
        sam2_weights=tmp_path,
        pose_estimator="rtmlib",
        rtmlib_detector=tmp_path / "network.onnx",
        rtmlib_pose=tmp_path / "network.onnx",
        device="cuda:1",
        dtype="float32",
    )
    networks = Networks.load(settings, None)
    assert sorted(places) == [
        ("GroundingDinoForObjectDetection", "cuda:1"),
        ("Sam2VideoModel", "cuda:1"),
        ("Wholebody", "cuda:1"),
    ]
    assert networks.masker._tracker is networks.tracker  # type: ignore[attr-defined]
    assert networks.estimator.remarks == ()  # type: ignore[attr-defined]
    places.clear()
    del providers[0]
    networks = Networks.load(settings, None)
    assert ("Wholebody", "cpu") in places
    assert "onnxruntime-gpu" in networks.estimator.remarks[0]  # type: ignore[attr-defined]


def test_remarks_on_the_video_are_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*given: Any) -> Any:
        return changed(open_driver(*given), remarks=("something odd",))

    monkeypatch.setattr("animate_anyone.workflows.settings.open_driver", odd)
    _, report = run(frames=slice(0, 4))
    assert "something odd" in report.lines
