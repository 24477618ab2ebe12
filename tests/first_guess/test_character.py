"""The first guess at every frame of a clip."""

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.evaluation.identity import HEAD
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.first_guess import frames as guessed
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.first_guess.frames import ScaledPictures
from animate_anyone.first_guess.mending import Part
from animate_anyone.synthetic.dataset import Clip, sample_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return sample_clip(3, split="held_out", num_frames=6, size=(96, 96), motion="dance")


def frames(clip: Clip, with_mask: bool = True) -> CharacterFrames:
    return CharacterFrames(
        clip.frames[0].numpy(), clip.pose[:1], clip.pose[1:], silhouette=clip.mask[0].numpy() if with_mask else None
    )


def test_the_person_moves_and_what_is_far_from_it_stays(clip: Clip) -> None:
    guess = frames(clip)
    assert len(guess) == 5 and guess[0].shape == (96, 96, 3)
    assert np.array_equal(guess[-1], guess[4]) and len(guess[1:3]) == 2 and len(list(guess)) == 5
    untouched = ~(clip.mask.numpy().any(0))
    assert psnr_masked(guess[4], clip.frames[0].numpy(), untouched) > 22
    moved = clip.mask[5].numpy() | clip.mask[0].numpy()
    truth = clip.frames[5].numpy()
    assert psnr_masked(guess[4], truth, moved) > psnr_masked(clip.frames[0].numpy(), truth, moved) + 1


def test_it_says_where_body_and_head_are_drawn(clip: Clip) -> None:
    """Beside the truth's labels; the circle about a head takes in the neck and the top of the shoulders too."""
    guess, labels = frames(clip), clip.labels.numpy()
    for number in range(5):
        drawn, person = guess.guess(number).drawn, clip.mask[number + 1].numpy()
        assert drawn is not None
        both = ((drawn > 0) & person).sum() / ((drawn > 0) | person).sum()
        head = np.isin(labels[number + 1], HEAD)
        assert both > 0.7
        assert (drawn[head] == Part.HEAD).mean() > 0.7 and (drawn[person & ~head] == Part.HEAD).mean() < 0.2


def test_in_its_own_pose_it_is_the_reference(clip: Clip) -> None:
    guess = CharacterFrames(clip.frames[0].numpy(), clip.pose[:1], clip.pose[:1], silhouette=clip.mask[0].numpy())
    assert psnr_masked(guess[0], clip.frames[0].numpy(), clip.mask[0].numpy()) > 27


def test_pictures_are_drawn_once_and_let_go_when_they_are_many(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    guess, drawn = frames(clip), list[int]()
    monkeypatch.setattr(guessed, "KEPT_BYTES", 96 * 96 * len(guessed.Guess._fields))
    small, draw = frames(clip), CharacterFrames.draw
    monkeypatch.setattr(CharacterFrames, "draw", lambda self, number: (drawn.append(number), draw(self, number))[1])
    for number in (0, 1, 2, 3, 4, 1, 4, 0):
        for mine, same in zip(small.guess(number), guess.guess(number), strict=True):
            assert (mine is None and same is None) or np.array_equal(mine, same)
        assert all(len(store._recent) <= 1 for store in small._planes)
    assert sorted(drawn) == sorted([*range(5)] * 2)


def test_without_a_mask_something_moves_all_the_same(clip: Clip) -> None:
    truth, moved = clip.frames[5].numpy(), clip.mask[5].numpy()
    assert psnr_masked(frames(clip, False)[4], truth, moved) > psnr_masked(clip.frames[0].numpy(), truth, moved)


def test_without_poses_the_reference_is_repeated(clip: Clip) -> None:
    picture = clip.frames[0].numpy()
    for own, poses in ((None, clip.pose), (clip.pose[:1], None)):
        guess = CharacterFrames(picture, own, poses, None if poses is not None else 4)
        assert len(guess) == (4 if poses is None else 6) and guess[3] is picture


def test_parts_that_do_not_belong_together(clip: Clip) -> None:
    picture, other = clip.frames[0].numpy(), replace(clip.pose, size=(64, 96))
    with pytest.raises(InputError, match="own is for frames"):
        CharacterFrames(picture, other[:1], clip.pose)
    with pytest.raises(InputError, match="poses is for frames"):
        CharacterFrames(picture, clip.pose[:1], other)
    with pytest.raises(InputError, match="silhouette has shape"):
        CharacterFrames(picture, clip.pose[:1], clip.pose, silhouette=np.zeros((5, 5), bool))
    with pytest.raises(ValueError, match="num_frames"):
        CharacterFrames(picture, None, None)


def test_scaled_pictures() -> None:
    pictures = [np.full((40, 20, 3), value, np.uint8) for value in (3, 200)]
    small = ScaledPictures(pictures, (10, 20))
    assert len(small) == 2 and small[1].shape == (20, 10, 3) and (small[1] == 200).all()
    assert [picture.shape for picture in small] == [(20, 10, 3)] * 2 and len(small[:1]) == 1
    assert ScaledPictures(pictures, (20, 40))[0] is pictures[0]
