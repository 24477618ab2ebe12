"""Identity: another's head is seen, in all frames or in some, and another shirt is not."""

from __future__ import annotations

import numpy as np
import pytest

import faults
from animate_anyone.evaluation.identity import HEAD, head_descriptors, identity
from animate_anyone.synthetic.figure.bricks import Label

SEEDS = [faults.DANCER, faults.REACHER, faults.IDLE, faults.BALD]  # four kinds of hair


def truths() -> list[np.ndarray]:
    clips = [faults.parts(seed) for seed in SEEDS]
    return [head_descriptors(frames, labels) for frames, _, labels in clips]


def described(result: faults.Frames, own: int) -> dict[str, float | None]:
    return identity(head_descriptors(result, faults.parts(SEEDS[own])[2]), truths(), own)


@pytest.mark.parametrize("own", range(len(SEEDS)))
def test_truth_is_itself(own: int) -> None:
    figures = described(faults.parts(SEEDS[own])[0], own)
    assert figures == pytest.approx({"identity": 1, "identity_drift": 0, "identity_rank1": 1}, abs=1e-5)


@pytest.mark.parametrize("own", range(len(SEEDS)))
def test_anothers_head(own: int) -> None:
    frames, _, labels = faults.parts(SEEDS[own])
    other = (own + 1) % len(SEEDS)
    head, _, head_labels = faults.parts(SEEDS[other])
    swapped = faults.with_head_of(frames, labels, head, head_labels, HEAD)
    figures = described(swapped, own)
    assert figures["identity_rank1"] == 0.0
    assert figures["identity"] is not None and figures["identity"] < 0.7
    # In the last two frames alone: who it is drifts.
    late = np.concatenate([frames[:4], swapped[4:]])
    some = described(late, own)
    assert some["identity_rank1"] == pytest.approx(4 / 6)
    assert some["identity_drift"] is not None and some["identity_drift"] > 0.1


def test_the_shirt_is_not_the_head() -> None:
    frames, _, labels = faults.parts(faults.IDLE)
    figures = described(faults.recoloured(frames, labels, [Label.TORSO, Label.LEFT_UPPER_ARM]), 2)
    assert figures == pytest.approx({"identity": 1, "identity_drift": 0, "identity_rank1": 1}, abs=1e-5)


def test_more_blur_less_like_itself() -> None:
    frames, _, _ = faults.parts(faults.IDLE)
    alike = [described(faults.blurred(frames, sigma), 2)["identity"] for sigma in (0.5, 1.0, 2.0, 3.0)]
    assert alike == sorted(alike, reverse=True)  # type: ignore[type-var]
    assert alike[1] is not None and alike[1] > 0.85
    assert described(faults.blurred(frames, 1.0), 2)["identity_rank1"] == 1.0


def test_mirrored_in_its_bands_it_is_the_same_head() -> None:
    """A head turned the other way keeps its colours at their height."""
    frames, _, labels = faults.parts(faults.IDLE)
    turned = head_descriptors(frames[:, :, ::-1], labels[:, :, ::-1])
    assert turned == pytest.approx(head_descriptors(frames, labels), abs=1e-5)
    upside_down = head_descriptors(frames[:, ::-1], labels[:, ::-1])
    assert (upside_down * turned).sum(1).max() < 0.9


def test_without_heads_or_without_others() -> None:
    frames, _, labels = faults.parts(faults.IDLE)
    nothing = head_descriptors(frames, np.zeros_like(labels))
    assert not nothing.any()
    assert set(identity(nothing, [nothing], 0).values()) == {None}
    alone = identity(truths()[2], [truths()[2]], 0)
    assert alone["identity"] == pytest.approx(1)
    assert alone["identity_rank1"] is None
    # Frames that show no head are left out.
    half = np.where(np.arange(6)[:, None, None] < 3, labels, 0).astype(np.uint8)
    first = head_descriptors(frames, half)
    assert identity(np.zeros_like(first), [first], 0)["identity"] == 0.0
    assert identity(first, [first], 0)["identity"] == pytest.approx(1)


def test_other_clips_are_refused() -> None:
    frames, _, labels = faults.parts(faults.IDLE)
    with pytest.raises(ValueError, match="different clips"):
        head_descriptors(frames, labels[:3])
