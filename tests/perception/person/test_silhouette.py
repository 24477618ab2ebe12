"""The refined silhouette of one picture."""

import numpy as np
import pytest

from animate_anyone.perception.person.silhouette import find_silhouette
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import MaskTrack, Picture, PoseSequence
from animate_anyone.synthetic.dataset import Clip, sample_clip

pytest.importorskip("cv2")


class Given:
    """A masker that says what it was given."""

    def __init__(self, mask: np.ndarray) -> None:
        self.found = mask

    def mask(self, frames: list[Picture], pose: PoseSequence, progress: Progress = SILENT) -> MaskTrack:
        assert len(frames) == len(pose) == 1
        return MaskTrack(self.found[None])


@pytest.fixture(scope="module")
def clip() -> Clip:
    return sample_clip(5, split="held_out", num_frames=1, size=(192, 192))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_a_rough_mask_comes_nearer_to_the_person(clip: Clip) -> None:
    truth, picture = clip.mask[0].numpy(), clip.frames[0].numpy()
    rough = np.roll(truth, 3, axis=1)
    found = find_silhouette(picture, clip.pose, Given(rough))
    assert found.shape == truth.shape and found.dtype == bool
    assert overlap(found, truth) > overlap(rough, truth) + 0.05


def test_nobody_is_nobody(clip: Clip) -> None:
    empty = np.zeros((192, 192), bool)
    assert not find_silhouette(clip.frames[0].numpy(), clip.pose, Given(empty)).any()


def test_where_colours_say_nothing_the_mask_stands(clip: Clip) -> None:
    truth = clip.mask[0].numpy()
    found = find_silhouette(np.full((192, 192, 3), 90, np.uint8), clip.pose, Given(truth))
    assert overlap(found, truth) > 0.5
