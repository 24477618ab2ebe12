"""The whole workflow on a tiny model: a picture and something that drives in, a video out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.retarget import fit_into_frame, retarget
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, frame_times, probe, read_frames, read_picture
from animate_anyone.progress import Item, Progress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.structures import PoseSequence, Subject
from animate_anyone.workflows.animate import Settings, animate, dry_run
from animate_anyone.workflows.character import make_first_guess
from animate_anyone.workflows.driving import Driver, open_driver
from animate_anyone.workflows.settings import Report


@pytest.fixture
def run(tiny_model: Path, dancers: Path, tmp_path: Path) -> Any:
    """Animate ``me.png`` in two steps; returns the path of a new video."""
    taken = itertools.count()

    def run(driving: str = "dance.npz", name: str | None = None, progress: Any = None, **settings: Any) -> Path:
        known = PoseSequence.load(dancers / "me.npz")
        options = Settings(**{"model": str(tiny_model), "size": (64, 64), "steps": 2, "device": "cpu", **settings})
        more = {} if progress is None else {"progress": progress}
        output = tmp_path / (name or f"{next(taken)}.mp4")
        animate(dancers / "me.png", dancers / driving, output, options, character_pose=known, **more)
        return output

    return run


def blocks(frames: NDArray[Any]) -> NDArray[np.float64]:
    """``(frames, height, width, 3)`` in blocks of 4x4 pixels, which compression leaves as they are."""
    count, height, width, _ = frames.shape
    return frames.astype(float).reshape(count, height // 4, 4, width // 4, 4, 3).mean((2, 4))


def frames_of(path: Path) -> NDArray[np.float64]:
    """The blocks of a video."""
    return blocks(np.stack([frame for _, frame in read_frames(path)]))


def loudness(path: Path) -> list[float]:
    """Of the first and the second half of a video's sound, in [0, 1]."""
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    halves = np.array_split(sound.astype(float), 2)
    return [float(np.abs(half).mean()) for half in halves]


@pytest.fixture(scope="module")
def aligned(
    tiny_model: Path, dancers: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, NDArray[np.float64]]:
    """Videos with and without alignment, as blocks."""
    made, known = {}, PoseSequence.load(dancers / "me.npz")
    for align in (True, False):
        output = tmp_path_factory.mktemp("aligned") / "out.mp4"
        changes = {"align": align, "seed": 5, "window": 6, "overlap": 2}
        options = Settings(model=str(tiny_model), size=(64, 64), steps=2, device="cpu", **changes)
        animate(dancers / "me.png", dancers / "dance.npz", output, options, character_pose=known)
        made[align] = frames_of(output)
    return made


def test_the_video(run: Any) -> None:
    video = run()
    info = probe(video)
    assert (info.num_frames, info.fps, info.width, info.height, info.has_audio) == (12, 12, 64, 64, False)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_remarks_on_the_driver_are_reported(
    tiny_model: Path, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*arguments: Any, **options: Any) -> Driver:
        return replace(open_driver(*arguments, **options), remarks=("video: it is odd",))

    monkeypatch.setattr("animate_anyone.workflows.settings.open_driver", odd)
    settings = Settings(model=str(tiny_model), steps=1, device="cpu", frames=slice(0, 2))
    known = PoseSequence.load(dancers / "me.npz")
    things = (dancers / "me.png", dancers / "dance.npz", tmp_path / "out.mp4", settings)
    assert "video: it is odd" in animate(*things, character_pose=known).lines
    assert "video: it is odd" in dry_run(*things)


@pytest.mark.parametrize("align", [True, False])
def test_result_is_what_its_parts_make(
    aligned: dict[bool, NDArray[np.float64]], tiny_model: Path, dancers: Path, tmp_path: Path, align: bool
) -> None:
    """Pose, letterbox, drawing and sampling step by step by hand."""
    pipeline = load_pipeline(tiny_model, "cpu")
    pipeline.set_progress_bar_config(disable=True)
    picture, own = read_picture(dancers / "me.png"), PoseSequence.load(dancers / "me.npz")
    dance = PoseSequence.load(dancers / "dance.npz")
    letterbox = Letterbox.into((192, 256), (64, 64))
    on_body = retarget(dance, own, (192, 256)) if align else fit_into_frame(dance, (192, 256))
    frames = pipeline(
        letterbox.apply(picture),
        draw_pose(letterbox.move(on_body), (128, 128), style="scaled"),
        reference_pose=draw_pose(letterbox.move(own), (128, 128), style="scaled")[0],
        num_inference_steps=2,
        window=6,
        overlap=2,
        generator=torch.Generator().manual_seed(5),
    ).frames
    with VideoWriter(tmp_path / "by hand.mp4", (64, 64), 12) as writer:
        for frame in frames:
            writer.write(frame)
    by_hand = frames_of(tmp_path / "by hand.mp4")
    assert np.abs(aligned[align] - by_hand).mean() < 0.1
    assert np.abs(aligned[not align] - by_hand).mean() > 1


def test_model_that_stretches_pictures(dancers: Path, tmp_path: Path) -> None:
    """Picture and skeletons fill the frame alike; the image encoder is given the picture as it came."""
    import tiny

    pipeline = tiny.pipeline(stretch=True, reference_pose=False)
    pipeline.save_pretrained(tmp_path / "model")
    settings = Settings(model=str(tmp_path / "model"), steps=2, device="cpu", seed=5)
    picture, own = read_picture(dancers / "me.png"), PoseSequence.load(dancers / "me.npz")
    animate(dancers / "me.png", dancers / "dance.npz", tmp_path / "out.mp4", settings, character_pose=own)
    pipeline.set_progress_bar_config(disable=True)
    on_body = retarget(PoseSequence.load(dancers / "dance.npz"), own, (192, 256))
    frames = pipeline(
        picture,
        draw_pose(on_body.scaled_to((64, 64)), (128, 128), style="scaled"),
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(5),
    ).frames
    assert np.abs(frames_of(tmp_path / "out.mp4") - blocks(frames)).mean() < 3  # compression alone


def test_same_settings_same_file(run: Any) -> None:
    one, again, other = run(), run(), run(seed=1)
    assert one.read_bytes() == again.read_bytes()
    assert one.read_bytes() != other.read_bytes()


@pytest.fixture
def no_masker(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the `pose` extra is not installed."""

    def missing() -> None:
        raise InputError("cv2 is not installed")

    monkeypatch.setattr("animate_anyone.workflows.character.load_masker", missing)


def test_depth_orders_layers_alike_with_and_without_margins(dancers: Path, no_masker: None) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)  # wide: margins above and below
    poses = PoseSequence.load(dancers / "dance.npz").scaled_to((64, 64))
    depth = np.random.default_rng(1).uniform(-0.03, 0.03, (len(poses), 128)).astype(np.float32)
    poses = replace(poses, size=(128, 64), depth=depth)
    letterbox, subject = Letterbox.into((128, 64), (64, 64)), Subject(picture, poses[:1])
    moved = letterbox.move(poses)
    assert moved.depth is not None and np.array_equal(moved.depth, depth / 2)
    guess = make_first_guess(subject, poses, letterbox, len(poses), Report())
    assert guess.poses is not None and np.array_equal(guess.poses.depth, depth)


@pytest.fixture(scope="module")
def guessing_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that begins with a first guess."""
    import tiny

    folder = tmp_path_factory.mktemp("guessing") / "model"
    tiny.pipeline(reference_latents=True, carried_reference=True).save_pretrained(folder)
    return folder


def test_a_first_guess_is_mended_at_the_pictures_own_size(
    run: Any, guessing_model: Path, no_masker: None, tmp_path: Path
) -> None:
    options = {"model": str(guessing_model), "size": None, "frames": slice(0, 3)}
    mended, alone = run(**options, keep=tmp_path / "kept"), run(**options, first_guess=True)
    for video in (mended, alone):
        info = probe(video)
        assert (info.width, info.height, info.num_frames) == (192, 256, 3)
    lines = json.loads((tmp_path / "kept" / "report.json").read_text())["lines"]
    assert "the character's outline is taken from its bones alone: cv2 is not installed" in lines
    assert np.abs(frames_of(mended) - frames_of(alone)).mean() > 0.5
    small = probe(tmp_path / "kept" / "skeletons.mp4")  # what the networks see: on a grid of the picture's shape
    assert (small.width, small.height) == (2 * 48, 2 * 64)


def test_the_first_guess_of_a_model_without_one_is_refused(run: Any) -> None:
    with pytest.raises(InputError, match="begins with noise alone; leave --first-guess out"):
        run(first_guess=True)


def test_size_and_frames_and_rate(run: Any) -> None:
    info = probe(run(size=(72, 88), frames=slice(2, 8)))
    assert (info.width, info.height, info.num_frames) == (72, 88, 6)
    info = probe(run(fps=Fraction(24), frames=slice(0, 4)))
    assert (info.num_frames, info.fps) == (8, 24)
    info = probe(run(fps=Fraction(30000, 1001), frames=slice(0, 4)))
    assert (info.num_frames, info.fps) == (10, Fraction(30000, 1001))


def test_uneven_times_are_kept(run: Any, dancers: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    times = np.array([0.0, 0.1, 0.15, 0.4, 0.5, 0.9])
    replace(PoseSequence.load(dancers / "dance.npz")[:6], times=times).save(tmp_path / "uneven.npz")
    assert frame_times(run(str(tmp_path / "uneven.npz")))[:-1] == pytest.approx(times, abs=1e-3)


def test_skeleton_video_drives_and_its_sound_comes_along(run: Any, dancers: Path) -> None:
    video = run("skeleton.mp4")
    info = probe(video)
    assert (info.num_frames, info.has_audio) == (12, True)
    silent, loud = loudness(video)
    assert loud > 0.1 > 10 * silent
    late = run("skeleton.mp4", frames=slice(6, 12))
    assert probe(late).num_frames == 6
    assert min(loudness(late)) > 0.1
    # The skeleton that was seen matters.
    assert np.abs(frames_of(late)[0] - frames_of(video)[0]).mean() > 1


def test_video_drives_and_its_sound_comes_along(tiny_model: Path, dancers: Path, tmp_path: Path) -> None:
    """Everything, with somebody's network looking for the bodies."""
    pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
    settings = Settings(model=str(tiny_model), steps=1, device="cpu", size=(64, 88), keep=tmp_path / "kept")
    report = animate(dancers / "me.png", dancers / "dance.mp4", tmp_path / "out.mp4", settings)
    info = probe(tmp_path / "out.mp4")
    assert (info.num_frames, info.fps, info.has_audio) == (12, 12, True)
    assert any("person found in 12 of 12 frames" in line for line in report.lines)
    found, truth = PoseSequence.load(tmp_path / "kept/character_pose.npz"), PoseSequence.load(dancers / "me.npz")
    assert found.size == (192, 256)
    both = (found.scores[0, :14] > 0.5) & (truth.scores[0, :14] > 0.5)
    assert both.sum() >= 6
    assert np.median(np.linalg.norm(found.keypoints[0, :14] - truth.keypoints[0, :14], axis=1)[both]) < 10  # pixels


def test_what_is_kept(run: Any, tmp_path: Path, dancers: Path) -> None:
    kept = tmp_path / "some/where"
    video = run(keep=kept, fps=Fraction(6))
    assert {f.name for f in kept.iterdir()} == {
        "skeletons.mp4",
        "overlay.mp4",
        "poses.npz",
        "character_pose.npz",
        "character_pose.png",
        "report.json",
    }
    for name, size in (("skeletons.mp4", (128, 128)), ("overlay.mp4", (192, 256))):
        info = probe(kept / name)
        assert (info.num_frames, info.fps, (info.width, info.height)) == (6, 6, size)
    poses = PoseSequence.load(kept / "poses.npz")
    assert (len(poses), poses.fps, poses.size) == (6, 6, (192, 256))
    drawn = draw_pose(Letterbox.into((192, 256), (64, 64)).move(poses), (128, 128), style="scaled")
    assert np.abs(frames_of(kept / "skeletons.mp4") - blocks(drawn)).mean() < 3
    assert blocks(drawn).std() > 10
    report = json.loads((kept / "report.json").read_text())
    assert report["seconds"].keys() == {"seeing", "making frames"}
    # The poses that were kept lead to the same video.
    again = run(str(kept / "poses.npz"), align=False)
    assert probe(again).fps == 6
    assert np.abs(frames_of(again) - frames_of(video)).mean() < 2


def test_report_of_what_was_done(run: Any, tiny_model: Path, dancers: Path, tmp_path: Path) -> None:
    settings = Settings(model=str(tiny_model), size=(64, 64), steps=1, device="cpu")
    report = animate(
        dancers / "me.png",
        dancers / "skeleton.mp4",
        tmp_path / "out.mp4",
        settings,
        character_pose=PoseSequence.load(dancers / "me.npz"),
    )
    assert isinstance(report, Report)
    assert report.lines[0] == "driver: a finished skeleton video, taken as it is"
    assert report.lines[-1] == f"{tmp_path / 'out.mp4'}: 12 frames, 64x64, 12 frames per second"


def test_model_without_reference_pose_needs_no_character_pose(dancers: Path, tmp_path: Path) -> None:
    import tiny

    tiny.pipeline(reference_pose=False).save_pretrained(tmp_path / "model")
    settings = Settings(model=str(tmp_path / "model"), steps=1, device="cpu", align=False)
    animate(dancers / "me.png", dancers / "dance.npz", tmp_path / "out.mp4", settings)
    assert probe(tmp_path / "out.mp4").num_frames == 12


class Interrupted(Progress):
    """Ctrl-C in the middle of something."""

    def __init__(self, at: str) -> None:
        self.at = at

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        for number, item in enumerate(items):
            if description == self.at and number == 1:
                raise KeyboardInterrupt
            yield item


@pytest.mark.parametrize("at", ["denoise", "frames"])
@pytest.mark.parametrize("before", [None, b"an older video"])
def test_an_interrupt_leaves_nothing(run: Any, tmp_path: Path, at: str, before: bytes | None) -> None:
    if before is not None:
        (tmp_path / "out.mp4").write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        run(name="out.mp4", progress=Interrupted(at), window=16)  # one window: see test_resuming.py for several
    left = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    assert left == ({} if before is None else {"out.mp4": before})


@pytest.mark.parametrize("name", ["me.png", "skeleton.mp4"])
def test_inputs_are_not_written_over(tiny_model: Path, dancers: Path, tmp_path: Path, name: str) -> None:
    for file in ("me.png", "skeleton.mp4"):
        (tmp_path / file).write_bytes((dancers / file).read_bytes())
    (tmp_path / "link.mp4").symlink_to(tmp_path / name)
    settings = Settings(model=str(tiny_model), steps=1, device="cpu")
    with pytest.raises(InputError, match="what the work starts from"):
        animate(tmp_path / "me.png", tmp_path / "skeleton.mp4", tmp_path / "link.mp4", settings)
    assert (tmp_path / name).read_bytes() == (dancers / name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (60, 64)}, "size 60x64: both must be multiples of 8, from 64 to 4096"),
        ({"size": (64, 56)}, "size 64x56"),
        ({"size": (64, 8192)}, "size 64x8192"),
        ({"steps": 0}, "steps and window batch"),
        ({"window_batch": 0}, "steps and window batch"),
        ({"fps": Fraction(0)}, "fps 0: give a number above 0"),
        ({"fps": Fraction(241)}, "fps 241"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**63}, "seed 9223372036854775808"),
        ({"pose_estimator": "eyes"}, "no pose estimator 'eyes'; there are: mediapipe, rtmlib"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 1001}, "1001 denoising steps"),
        ({"guidance": float("inf")}, "guidance inf"),
        ({"window": 4, "overlap": 4}, "window 4, overlap 4"),
        ({"window": 17, "fps": Fraction(24)}, "window is 17; .* at most 16"),
        ({"keep": Path("/dev/null/kept")}, "--keep /dev/null/kept: /dev/null is no folder"),
        ({"model": "no-such-model"}, "no-such-model: no model of that name"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not there"),
    ],
)
def test_what_the_model_cannot_do_is_told_before_anything_long(
    run: Any, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    class Long(Progress):
        def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
            raise AssertionError(f"{description} began")

    with pytest.raises(InputError, match=message):
        run(progress=Long(), **settings)
    assert list(tmp_path.iterdir()) == []


def test_kept_folder_is_made_only_when_there_is_something_to_keep(run: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run(keep=tmp_path / "kept", model="no-such-model")
    assert list(tmp_path.iterdir()) == []


def test_character_may_be_of_any_shape(run: Any, dancers: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Its edges are drawn out to the video's shape, and its pose goes with it."""
    Image.fromarray(np.full((64, 200, 3), 90, np.uint8)).save(tmp_path / "wide.png")
    pose = PoseSequence.load(dancers / "me.npz").scaled_to((200, 64))
    settings = Settings(model=str(tiny_model), steps=1, device="cpu", size=(64, 96))
    animate(tmp_path / "wide.png", dancers / "dance.npz", tmp_path / "out.mp4", settings, character_pose=pose)
    assert probe(tmp_path / "out.mp4").height == 96


def test_while_nobody_is_to_be_seen_the_pose_is_held(tiny_model: Path, dancers: Path, tmp_path: Path) -> None:
    dance = PoseSequence.load(dancers / "dance.npz")
    scores = dance.scores.copy()
    scores[[0, 1, 5, 6, 7]] = 0
    replace(dance, scores=scores).save(tmp_path / "gap.npz")
    known = PoseSequence.load(dancers / "me.npz")
    settings = Settings(model=str(tiny_model), steps=1, device="cpu", keep=tmp_path / "kept")
    report = animate(dancers / "me.png", tmp_path / "gap.npz", tmp_path / "out.mp4", settings, character_pose=known)
    kept = PoseSequence.load(tmp_path / "kept" / "poses.npz")
    assert (kept.scores[:, :18] >= 0.3).sum(axis=1).min() >= 4
    assert np.array_equal(kept.keypoints[0], kept.keypoints[2])
    assert any(line.startswith("nobody to be seen in frame 0-1, 5-7: the pose before is held") for line in report.lines)


def test_joints_outside_the_frame_are_reported(tiny_model: Path, dancers: Path, tmp_path: Path) -> None:
    known = PoseSequence.load(dancers / "me.npz")
    low = replace(known, keypoints=known.keypoints + np.array([0, 240], np.float32))
    settings = Settings(model=str(tiny_model), steps=1, device="cpu", frames=slice(0, 4))
    report = animate(dancers / "me.png", dancers / "dance.npz", tmp_path / "out.mp4", settings, character_pose=low)
    assert any(line.startswith("most joints lie outside the frame in frame 0-3") for line in report.lines)


def test_the_kind_of_a_driver_may_be_named(run: Any, dancers: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no kind of driver 'film'; there are: auto, video, skeleton"):
        Settings(driving_kind="film")
    with pytest.raises(InputError, match="holds poses, and is no skeleton; leave --driving-kind out"):
        run(driving_kind="skeleton")
    named = open_driver(dancers / "dance.mp4", kind="skeleton")
    assert named.is_skeleton and not open_driver(dancers / "dance.mp4").is_skeleton
