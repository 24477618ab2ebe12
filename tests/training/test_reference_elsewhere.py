"""The reference from another clip of the same character: in training's batches, in its cache, in the suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_recipes import few_clips_a_shard, log, small, start

import tiny
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.evaluation.suites import evaluate_puppet, puppet_clip
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.training.clips import StudioClips, render_clip
from animate_anyone.training.config import Data
from animate_anyone.training.loop import train
from animate_anyone.training.stages import build_stage

__all__ = ["start"]
HERE = Data(size=64, frames_per_clip=3, clips=5, supersample=1, workers=1)
ELSEWHERE = replace(HERE, reference="elsewhere")


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        few_clips_a_shard(patch, 5)
        yield


def test_a_frame_of_another_take_is_the_last() -> None:
    here, elsewhere = render_clip(HERE, 2), render_clip(ELSEWHERE, 2)
    for name, array in here.items():
        assert np.array_equal(elsewhere[name][:3], array)
        assert len(elsewhere[name]) == 4
    other = sample_clip(2, num_frames=24, size=(64, 64), supersample=1, take=1)
    at = [np.array_equal(frame, elsewhere["frames"][3]) for frame in other.frames.numpy()].index(True)
    assert np.array_equal(elsewhere["masks"][3], other.mask[at])
    assert np.array_equal(elsewhere["poses"][3], draw_pose(other.pose[at : at + 1], (128, 128), style="scaled")[0])


def test_a_cache_of_the_one_is_not_taken_for_the_other(tmp_path: Path) -> None:
    cache = str(tmp_path / "clips")
    StudioClips(replace(ELSEWHERE, cache=cache), 0)
    with pytest.raises(InputError):
        StudioClips(replace(HERE, cache=cache), 0)
    assert "reference" not in StudioClips(HERE, 0).settings()  # older caches do not say it


@pytest.mark.parametrize("stage", ["image", "motion"])
def test_batches_have_it_as_their_reference(stage: str, start: Path, tmp_path: Path) -> None:
    init = start / "model" if stage == "motion" else start
    recipe = small(stage, tmp_path / "run", init, data__reference="elsewhere", data__cache=str(tmp_path / "clips"))
    made: Any = build_stage(recipe)
    batch = made.batch(0, 0, 1)
    clips = made.clips.of_step(0, 0, 1, 2)
    for row, clip in enumerate(clips):
        frames = recipe.data.frames_per_clip
        assert np.array_equal(batch.reference[row], clip["frames"][frames])
        assert np.array_equal(batch.reference_pose[row], clip["poses"][frames])
        assert np.array_equal(batch.latents[row, 0], clip["latents"][frames])
        for pose in batch.poses[row].numpy():
            assert any(np.array_equal(pose, own) for own in clip["poses"][:frames])
    train(recipe, made)
    assert all(line["loss"] > 0 for line in log(tmp_path / "run"))


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("autoencoder", {}, "data.reference is 'elsewhere'; stage autoencoder goes with same_clip alone"),
        ("image", {"data__source": "videos", "data__videos": "x"}, "which the studio alone has; give same_clip"),
        ("image", {"data__reference": "nowhere"}, "data.reference is 'nowhere'; it must be 'same_clip' or 'elsewhere'"),
    ],
)
def test_what_has_no_other_clip(stage: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        small(stage, tmp_path, **{"data__reference": "elsewhere", **changes})


def test_the_suites_reference_elsewhere() -> None:
    """The truth is that of the suite as ever; the reference is of the character's second take."""
    here, elsewhere = (
        puppet_clip(2, (64, 64), (128, 128), "scaled", reference=one) for one in ("same_clip", "elsewhere")
    )
    for name in ("frames", "masks", "poses", "labels"):
        assert np.array_equal(getattr(here, name), getattr(elsewhere, name))
    other = sample_clip(2, split="held_out", num_frames=36, size=(64, 64), take=1)
    place = [np.array_equal(elsewhere.reference, frame) for frame in other.frames.numpy()].index(True)
    drawn = draw_pose(other.pose[place : place + 1], (128, 128), style="scaled")[0]
    assert np.array_equal(elsewhere.reference_pose, drawn)
    assert np.array_equal(elsewhere.copied[0], elsewhere.reference)
    assert not np.array_equal(np.stack(list(elsewhere.carried)), np.stack(list(here.carried)))


def test_the_report_says_so() -> None:
    pipeline = tiny.pipeline()
    reports = [
        evaluate_puppet(pipeline, characters=1, steps=1, long_clips=0, reference=one)[0]
        for one in ("same_clip", "elsewhere")
    ]
    said = [report["settings"]["reference"] for report in reports]
    assert said[0] == "another frame of the same clip" and "of the same character: other camera" in said[1]
    assert reports[0]["copy_reference"]["psnr"] > reports[1]["copy_reference"]["psnr"] + 3  # the place is another
    with pytest.raises(InputError, match="reference 'there' is not known; give same_clip or elsewhere"):
        evaluate_puppet(pipeline, reference="there")
