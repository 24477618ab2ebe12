"""Training on prepared videos: which clips and frames a step takes, at which size, and runs of all stages."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_recipes import few_clips_a_shard, same, small, tensors

import tiny
from animate_anyone.errors import InputError
from animate_anyone.training import video_latents
from animate_anyone.training.check import check_lines
from animate_anyone.training.clip_source import MixedClips
from animate_anyone.training.config import Data, Recipe
from animate_anyone.training.prefetching import Batches, BatchMakers
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.stage_image import ImageStage
from animate_anyone.training.stages import build_stage, run
from animate_anyone.training.validation_cases import video_case
from animate_anyone.training.video_clips import VideoClips
from animate_anyone.training.wanted import Wanted
from conftest import REPOSITORY
from small_dataset import CLIPS, NOSE, grey, write

TWO = Wanted(targets=2, in_a_row=False, masks=True)
ROW = Wanted(targets=3, in_a_row=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a first guess, without temporal layers."""
    folder = tmp_path_factory.mktemp("start") / "model"
    made = tiny.pipeline(reference_pose=True, reference_latents=True, carried_reference=True)
    channels = made.denoising_unet.config["in_channels"]
    made.register_modules(denoising_unet=tiny.denoising_unet(use_motion_module=False, in_channels=channels))
    made.save_pretrained(folder)
    return folder


def data(dataset: Path, **changes: Any) -> Data:
    return Data(source="videos", videos=str(dataset), size=64, **changes)


def recipe(stage: str, dataset: Path, output: Path, model: Path, **changes: Any) -> Recipe:
    options = {"reference_pose": True, "reference_latents": True, "carried_reference": True}
    ours = {"data__source": "videos", "data__videos": str(dataset), "networks__pipeline": options}
    if stage == "environment":
        file = REPOSITORY / "recipes/puppet_environment.yaml"
        small_ones = {"init": str(model), "output": str(output), "steps": 2, "batch": 2, "accumulate": 1, "ema": 0.5}
        small_ones |= {"precision": "float32", "data__size": 64, "data__cache": None, "log_every": 1}
        small_ones |= {"environment__modulation": {"num_attention_heads": 2}, "objective__targets_per_reference": 2}
        settings = {k.replace("__", "."): v for k, v in (small_ones | ours | changes).items()}
        return load_recipe(file, [f"{name}={json.dumps(value)}" for name, value in settings.items()])
    return small(stage, output, model, **ours | changes)


def test_each_clip_once_an_epoch_in_steps_of_one_size(dataset: Path) -> None:
    clips = VideoClips(data(dataset), 0, replace(TWO, step=16))
    assert clips.sizes == [(64, 64), (48, 96), (64, 64), (48, 96)]  # not the one of the split `val`
    for epoch in range(3):
        steps = [[clips.chosen(2 * epoch + step, row, 2)[0] for row in range(2)] for step in range(2)]
        assert sorted(map(sorted, steps)) == [[0, 2], [1, 3]]
    orders = {
        seed: [VideoClips(data(dataset), seed, TWO).chosen(step, 0, 1)[0] for step in range(8)] for seed in range(3)
    }
    assert all(sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3] for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) > 1


def test_groups_that_do_not_fill_a_step_are_filled_up(dataset: Path) -> None:
    clips = VideoClips(data(dataset), 0, TWO)
    steps = [sorted(clips.chosen(step, row, 3)[0] for row in range(3)) for step in range(2)]
    assert sorted(sorted(set(step)) for step in steps) == [[0, 2], [1, 3]]
    assert len(VideoClips(data(dataset, shapes="square"), 0, TWO)._plan(0, 3)) == 2  # 4 clips of one size


def test_how_a_step_is_cut_changes_nothing(dataset: Path) -> None:
    clips = VideoClips(data(dataset), 0, TWO)
    whole = clips.of_step(5, 0, 1, 4)
    cut = [clip for part in range(2) for clip in clips.of_step(5, part, 2, 2)]
    for one, other in zip(whole, cut, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def levels(frames: NDArray[np.uint8]) -> list[int]:
    """Which frames of a clip these are, by their grey."""
    return [round((int(frame[-2, 2, 1]) - grey(0)) / (grey(1) - grey(0))) for frame in frames]


def test_the_reference_is_any_frame_and_targets_are_different_or_in_a_row(dataset: Path) -> None:
    references: set[int] = set()
    for step in range(60):
        (clip,) = VideoClips(data(dataset), 0, ROW).of_step(step, 0, 1, 1)
        assert levels(clip["frames"]) == clip["numbers"].tolist()
        reference, first, *others = clip["numbers"].tolist()
        assert others == [first + 1, first + 2]
        references.add(reference - first)
        (single,) = VideoClips(data(dataset), 0, TWO).of_step(step, 0, 1, 1)
        assert len(set(single["numbers"].tolist())) == 3
    assert min(references) < 0 and max(references) > 2 and references & {0, 1, 2}


@pytest.mark.parametrize("shapes", ["buckets", "square"])
def test_pictures_masks_and_poses_stay_together(dataset: Path, shapes: Any) -> None:
    clips = VideoClips(data(dataset, shapes=shapes, pose_scale=2), 0, replace(TWO, scene=True))
    for number, size in ((0, (64, 64)), (1, (48, 96) if shapes == "buckets" else (64, 64))):
        read = clips.read(number, np.array([3, 0, 1]))
        assert read["frames"].shape == (3, size[1], size[0], 3)
        masks = read["masks"].astype(bool)
        assert masks.shape == (3, size[1], size[0]) and masks.any()
        for frame, points in zip(read["frames"].astype(int), read["points"], strict=True):
            rows, columns = np.nonzero(frame[..., 0] - frame[..., 1] > 120)  # the red dot
            if points[NOSE, 1] > 4:  # else cut off by the square
                assert np.allclose(points[NOSE, :2], (columns.mean() + 0.5, rows.mean() + 0.5), atol=1.5)
        # Nothing of the person is left behind it; objects are not known.
        assert np.abs(read["environment"][:, -12, size[0] // 2].astype(int) - read["frames"][:, -2, 2]).max() < 12
        assert not read["objects"].any() and not read["occluders"].any()
    drawn = VideoClips(data(dataset, shapes=shapes, pose_scale=2), 0, TWO).read(0, np.array([3, 0, 1]))
    assert drawn["poses"].shape == (3, 128, 128, 3) and drawn["joints"].shape == (3, 18, 4)


def test_clips_that_are_too_short_are_left_out(dataset: Path) -> None:
    clips = VideoClips(data(dataset), 0, replace(ROW, targets=7))
    assert [clip.num_frames for clip in clips.clips] == [8, 9] and clips.too_short == 2
    assert "2 have fewer than 7 frames and are left out" in clips.lines()[0]
    with pytest.raises(InputError, match="none of its 4 clips for training has 20 frames"):
        VideoClips(data(dataset), 0, replace(ROW, targets=20))


def test_what_a_data_set_lacks_is_told(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare", CLIPS[:1], masks=False, depth=False)
    VideoClips(data(bare), 0, ROW)
    with pytest.raises(InputError, match="1 of its clips have none; call `animate-anyone prepare` again with --masks"):
        VideoClips(data(bare), 0, TWO)
    with pytest.raises(InputError, match="its poses have no depth"):
        VideoClips(data(bare), 0, replace(ROW, depth=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.source": "videos"}, "give data.videos=FOLDER"),
        ({"data.videos": "folder"}, "data.source is studio; give data.source=videos"),
        ({"data.studio_share": 0.5}, "give data.source=videos"),
        ({"data.studio_share": 1, "data.source": "videos", "data.videos": "a"}, r"it must lie in \[0, 1\)"),
        ({"data.source": "videos", "data.videos": "a", "stage": "autoencoder"}, "trains on the studio alone"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(REPOSITORY / "recipes/puppet_image.yaml", [f"{k}={json.dumps(v)}" for k, v in changes.items()])


def test_the_studio_has_its_share_of_the_steps() -> None:
    class Told:
        device = "cpu"

        def __init__(self, name: str) -> None:
            self.name = name

        def of_step(self, step: int, part: int, parts: int, count: int) -> Any:
            return self.name, step

        def derive(self, *given: Any) -> None: ...

    mixed = MixedClips(Told("videos"), Told("studio"), 0.3)  # type: ignore[arg-type]
    steps: list[Any] = [mixed.of_step(step, 0, 1, 1) for step in range(100)]
    for name, count in (("studio", 30), ("videos", 70)):
        assert [step for source, step in steps if source == name] == list(range(count))
    assert len([source for source, _ in steps[:10] if source == "studio"]) == 3


def test_latents_are_kept_under_the_weights_that_made_them(
    dataset: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = recipe("image", dataset, tmp_path / "a", model, data__cache=str(tmp_path / "cache"))
    stage, bare = build_stage(cached), build_stage(replace(cached, data=replace(cached.data, cache=None)))
    assert isinstance(stage, ImageStage) and isinstance(bare, ImageStage)
    one, other = stage.batch(3, 0, 1), bare.batch(3, 0, 1)
    assert one.frames is None and other.latents is None and one.latents is not None and other.frames is not None
    encoded = bare.encode(torch.cat([other.reference[:, None], other.frames], 1))
    assert torch.allclose(one.latents.float(), encoded, atol=2e-2)
    assert torch.equal(one.reference, other.reference) and torch.equal(one.poses, other.poses)
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "cache").rglob("*.npy")}
    assert len(files) == 4

    build_stage(cached)  # all is there
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "cache").rglob("*.npy")} == files
    lost = next(iter(files))
    lost.unlink()
    monkeypatch.setattr(video_latents, "_AT_ONCE", 3)  # frames at once change nothing
    again = build_stage(cached).batch(3, 0, 1)
    assert lost.exists() and torch.allclose(again.latents.float(), one.latents.float(), atol=1e-3)
    with torch.no_grad():  # other weights
        next(stage.vae.parameters()).add_(1)
    stage.make_clips()
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 8


@pytest.mark.parametrize("stage", ["image", "motion", "distil", "environment"])
def test_two_steps_and_the_same_when_resumed(stage: str, dataset: Path, model: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"checkpoint_every": 1}
    if stage == "environment":
        changes["data__frames_per_clip"] = 4
    if stage == "distil":  # the model has no temporal layers
        changes["data__consecutive"] = False
    whole = run(recipe(stage, dataset, tmp_path / "whole", model, **changes))
    run(recipe(stage, dataset, tmp_path / "cut", model, steps=1, **changes))
    cut = run(recipe(stage, dataset, tmp_path / "cut", model, **changes), resume=True)
    assert same(tensors(whole), tensors(cut))


def test_mixed_with_the_studio(dataset: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_clips_a_shard(monkeypatch)
    mixed = recipe("image", dataset, tmp_path / "a", model, data__studio_share=0.5, data__cache=str(tmp_path / "cache"))
    stage = build_stage(mixed)
    shapes = {tuple(stage.batch(step, 0, 1).reference.shape[1:3]) for step in range(6)}
    assert shapes == {(64, 64), (96, 48)}
    run(mixed)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no forked processes here")
def test_processes_make_the_same_batches(dataset: Path, model: Path, tmp_path: Path) -> None:
    stage = build_stage(recipe("image", dataset, tmp_path / "a", model))
    assert stage.renderers == 0  # read, not rendered
    places = [(step, 0, 1) for step in range(4)]
    with Batches(stage, places, BatchMakers()) as one, Batches(stage, places, BatchMakers(processes=2)) as other:
        for here, there in zip(one, other, strict=True):
            assert all(torch.equal(value, there.tensors()[name]) for name, value in here.tensors().items())


def test_check_says_what_there_is(dataset: Path, model: Path, tmp_path: Path) -> None:
    lines = check_lines(recipe("image", dataset, tmp_path / "a", model))
    assert any(line.startswith("data: 4 clips of videos in ") for line in lines)
    assert "sizes: 2 of 64x64, 2 of 48x96" in lines
    assert not (tmp_path / "a").exists()


def test_validation_takes_what_is_held_out(dataset: Path, model: Path, tmp_path: Path) -> None:
    asked = recipe("image", dataset, tmp_path / "a", model, monitor__validate_every=2, monitor__validation_clips=1)
    asked = replace(asked, monitor=replace(asked.monitor, validation_frames=5, validation_steps=1))
    run(asked)
    folder = tmp_path / "a" / "validation" / "000002"
    assert {file.name for file in folder.iterdir()} == {"04c.mp4", "sheet.png"}  # the clip of the split `val`
    case = video_case(asked, 0, TWO)
    assert levels(case.frames) == [0, 1, 2, 3, 4] and levels(case.reference[None]) == [7]
    assert case.masks.any() and case.fps == 12
    without = write(tmp_path / "without", CLIPS[:2])
    other = recipe("image", without, tmp_path / "b", model, monitor__validation_frames=2)
    assert video_case(other, 0, TWO).name == "studio_0"
