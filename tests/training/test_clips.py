"""Training clips, rendered in the step or kept in a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_recipes import few_clips_a_shard

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.training.clips import StudioClips, digest, render_clip
from animate_anyone.training.config import Data

SHARD = 5  # clips
DATA = Data(size=64, frames_per_clip=3, clips=5, supersample=1, workers=1)


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        few_clips_a_shard(patch, SHARD)
        yield


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """DATA with a cache that is rendered."""
    data = replace(DATA, cache=str(tmp_path_factory.mktemp("cache") / "clips"))
    StudioClips(data, 0)
    return data


def test_a_clip_is_the_studios() -> None:
    rendered = render_clip(DATA, 2)
    assert rendered["frames"].shape == (3, 64, 64, 3)
    assert rendered["masks"].shape == (3, 64, 64)
    assert rendered["poses"].shape == (3, 128, 128, 3)
    assert set(np.unique(rendered["masks"])) == {0, 1}
    whole = sample_clip(2, num_frames=24, size=(64, 64), supersample=1)
    frames = whole.frames.numpy()
    places = [int(np.abs(frames.astype(int) - f).sum((1, 2, 3)).argmin()) for f in rendered["frames"]]
    assert places == sorted(set(places))  # three different frames of the clip, in order
    assert np.array_equal(frames[places], rendered["frames"])
    assert np.array_equal(rendered["poses"], draw_pose(whole.pose[np.array(places)], (128, 128), style="scaled"))


def test_frames_in_a_row() -> None:
    whole = sample_clip(1, num_frames=24, size=(64, 64), supersample=1).frames.numpy()
    assert np.array_equal(render_clip(replace(DATA, consecutive=True), 1)["frames"], whole[:3])
    assert np.array_equal(render_clip(replace(DATA, consecutive=True, first_seed=1), 0)["frames"], whole[:3])


def test_every_clip_comes_once_per_epoch() -> None:
    clips = StudioClips(DATA, 0)
    drawn = np.concatenate([clips.numbers(step, 0, 1, 2) for step in range(10)])
    epochs = drawn.reshape(4, 5)
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    # Cut into parts or not, a step takes the same clips.
    parts = np.concatenate([clips.numbers(3, part, 2, 1) for part in range(2)])
    assert np.array_equal(parts, clips.numbers(3, 0, 1, 2))
    other = np.concatenate([StudioClips(DATA, 1).numbers(step, 0, 1, 2) for step in range(10)])
    assert not np.array_equal(drawn, other)


def test_cache_holds_what_would_be_rendered(cached: Data) -> None:
    numbers = np.array([4, 0])
    for kept, rendered in zip(StudioClips(cached, 0).clips(numbers), StudioClips(DATA, 0).clips(numbers), strict=True):
        assert kept.keys() == rendered.keys()
        for name in kept:
            assert np.array_equal(kept[name], rendered[name]), name


def test_cache_is_rendered_once_and_a_cut_shard_anew(cached: Data) -> None:
    shard = Path(str(cached.cache)) / "shard_00000"
    assert np.load(shard / "frames.npy", mmap_mode="r").shape[0] == SHARD
    before = os.stat(shard / "frames.npy").st_mtime_ns
    (shard.parent / "shard_00001.partial").mkdir()  # what a cut leaves
    (shard.parent / "shard_00001.partial" / "frames.npy").write_bytes(b"half")
    StudioClips(replace(cached, clips=SHARD + 1), 0)
    assert os.stat(shard / "frames.npy").st_mtime_ns == before
    assert {f.name for f in shard.parent.iterdir()} == {"index.json", "shard_00000", "shard_00001"}
    last = StudioClips(replace(cached, clips=SHARD + 1), 0).clips(np.array([SHARD]))[0]
    assert np.array_equal(last["frames"], render_clip(DATA, SHARD)["frames"])


def test_the_wide_domain_is_asked_for_by_name() -> None:
    data = Data(size=64, frames_per_clip=1, consecutive=True, supersample=1, domain="wide")
    drawn = sample_clip(2, num_frames=24, size=(64, 64), supersample=1, frame_indices=[0], domain="wide")
    assert np.array_equal(render_clip(data, 2)["frames"], drawn.frames.numpy())
    assert not np.array_equal(render_clip(replace(data, domain="plain"), 2)["frames"], drawn.frames.numpy())


def test_a_plain_cache_says_nothing_of_domains(cached: Data) -> None:
    """As those from before there were domains."""
    assert "domain" not in (Path(str(cached.cache)) / "index.json").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"size": 72},
        {"frames_per_clip": 4},
        {"first_seed": 1},
        {"pose_scale": 1},
        {"skeleton_style": "dwpose"},
        {"domain": "wide"},
    ],
)
def test_cache_of_other_clips_is_refused(cached: Data, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="holds clips of other settings"):
        StudioClips(replace(cached, **change), 0)  # type: ignore[arg-type]


def test_what_is_derived_is_kept_beside(cached: Data) -> None:
    calls = []

    def brightness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append(1)
        return frames.mean((1, 2, 3)).astype(np.float32)

    clips = StudioClips(cached, 0)
    clips.derive("brightness", "one", brightness, SILENT)
    clip = clips.clips(np.array([3]))[0]
    assert np.allclose(clip["brightness"], clip["frames"].mean((1, 2, 3)))
    done = len(calls)
    StudioClips(cached, 0).derive("brightness", "one", brightness, SILENT)
    assert len(calls) == done
    StudioClips(cached, 0).derive("brightness", "two", brightness, SILENT)
    assert len(calls) == 2 * done
    fresh = StudioClips(DATA, 0)
    fresh.derive("brightness", "one", brightness, SILENT)
    assert "brightness" not in fresh.clips(np.array([3]))[0]


def test_digest_changes_with_the_weights() -> None:
    torch.manual_seed(0)
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert digest(one) == digest(one)
    assert len(digest(one)) == 8
    assert digest(one) != digest(other)
    other.load_state_dict(one.state_dict())
    assert digest(one) == digest(other)
