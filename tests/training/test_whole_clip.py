"""Studio clips as the papers' own: the reference from the whole clip, the character wholly inside in every frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.synthetic.scenes import sample_scene_clip
from animate_anyone.training.clips import StudioClips, render_clip, render_scene
from animate_anyone.training.config import Data
from animate_anyone.training.recipe_file import load_recipe
from conftest import REPOSITORY

RECIPES = REPOSITORY / "recipes"

DATA = Data(size=32, frames_per_clip=3, clips=8, supersample=1)
LONG = 60


@pytest.mark.parametrize("consecutive", [False, True])
def test_the_reference_is_any_frame_of_a_long_clip(consecutive: bool) -> None:
    """It stands behind the clip's own frames, which begin anywhere; nothing else of the clip is another."""
    data = replace(DATA, consecutive=consecutive, reference="whole_clip", clip_length=LONG)
    apart, begins = [], set()
    for number in range(6):
        arrays = render_clip(data, number)
        assert {len(array) for array in arrays.values()} == {4}
        whole = sample_clip(number, num_frames=LONG, size=(32, 32), supersample=1)
        frames = whole.frames.numpy()
        places = [
            int(np.argmin([np.abs(frame.astype(int) - one).mean() for one in frames])) for frame in arrays["frames"]
        ]
        for place, frame in zip(places, arrays["frames"], strict=True):
            assert np.array_equal(frames[place], frame)
        if consecutive and len({frames[place].tobytes() for place in places[:3]}) == 3:
            assert np.diff(places[:3]).tolist() == [1, 1]
            begins.add(places[0])
        apart.append(min(abs(place - places[3]) for place in places[:3]))
    assert max(apart) > 8
    if consecutive:
        assert len(begins) > 1


def test_scenes_have_it_too() -> None:
    data = replace(DATA, reference="whole_clip", clip_length=LONG)
    assert {len(array) for array in render_scene(data, 1).values()} == {4}


def test_caches_of_the_usual_clips_are_as_before() -> None:
    usual = StudioClips(DATA, 0).settings()
    assert not {"reference", "clip_length", "framing"} & usual.keys()
    told = StudioClips(replace(DATA, reference="whole_clip", clip_length=30, framing="throughout"), 0).settings()
    assert told == usual | {"reference": "whole_clip", "clip_length": 30, "framing": "throughout"}


@pytest.mark.parametrize("seed", range(8))
def test_the_character_is_wholly_inside_throughout(seed: int) -> None:
    how = {"num_frames": 96, "size": (48, 48), "frame_indices": range(0, 96, 8), "supersample": 1}
    masks = [
        sample_clip(seed, framing="throughout", **how).mask,  # type: ignore[arg-type]
        sample_scene_clip(seed, framing="throughout", **how).person_full_mask,  # type: ignore[arg-type]
    ]
    for mask in (mask.numpy() for mask in masks):
        assert mask.any(axis=(1, 2)).all()
        assert not (mask[:, 0].any() or mask[:, -1].any() or mask[:, :, 0].any() or mask[:, :, -1].any())


def test_a_clip_shorter_than_what_is_kept_is_refused() -> None:
    with pytest.raises(InputError, match=r"data.clip_length is 2; at least data.frames_per_clip, 3"):
        replace(DATA, clip_length=2)


@pytest.mark.parametrize("name", ["aa1_stage1", "aa1_stage2", "aa2"])
def test_paper_size_is_cropped_as_the_papers_do(name: str) -> None:
    data = load_recipe(RECIPES / f"{name}.yaml").data
    assert (data.reference, data.framing) == ("whole_clip", "throughout")
    assert data.clip_length is not None and 24 <= data.clip_length <= 120  # 2 to 10 s at 12 frames a second
