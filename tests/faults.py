"""Faults that users complain of, built into frames that are right: each function returns other frames.

Frames are ``(frames, H, W, 3)`` uint8, labels ``(frames, H, W)`` uint8, as the puppet studio gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.filters import gaussian

from animate_anyone.synthetic.dataset import Clip, sample_clip

Frames = NDArray[np.uint8]
Labels = NDArray[np.uint8]

# Characters, seen from head to feet, by their seeds.
DANCER, REACHER, LONG_SLEEVES, IDLE, BALD = 0, 3, 4, 7, 14
LOOKS = {
    DANCER: {"motion": "dance", "outfit": "trousers", "hair": "bun"},
    REACHER: {"motion": "reach", "sleeves": "short", "hair": "afro"},
    LONG_SLEEVES: {"motion": "dance", "sleeves": "long", "outfit": "dress"},  # forearms in the dress's pattern
    IDLE: {"motion": "idle", "outfit": "suit", "top": "plain", "hair": "spikes"},  # moves little, in one colour
    BALD: {"motion": "idle", "hat": "beanie", "hair": "bald"},
}


@cache
def puppet(seed: int, frames: int = 6) -> Clip:
    """A held-out character at 128x128."""
    clip = sample_clip(seed, split="held_out", num_frames=frames, size=(128, 128))
    assert clip.description["framing"] == "full" and clip.description.items() >= LOOKS[seed].items()
    return clip


def parts(seed: int, frames: int = 6) -> tuple[Frames, NDArray[np.bool_], Labels]:
    """Frames, masks and labels of :func:`puppet`."""
    clip = puppet(seed, frames)
    return clip.frames.numpy(), clip.mask.numpy(), clip.labels.numpy()


def to_bytes(frames: NDArray[np.floating]) -> Frames:
    return frames.round().clip(0, 255).astype(np.uint8)


def blurred(frames: Frames, sigma: float) -> Frames:
    """The whole picture out of focus."""
    return to_bytes(gaussian(frames.astype(float), (0, sigma, sigma, 0), preserve_range=True))


def recoloured(frames: Frames, labels: Labels, of: Sequence[int]) -> Frames:
    """Parts in other colours, of the same pattern: the channels swapped round."""
    return np.where(np.isin(labels, of)[..., None], frames[..., [1, 2, 0]], frames)


def moved(frames: Frames, labels: Labels, of: Sequence[int], right: int) -> Frames:
    """Parts drawn ``right`` pixels aside; where they were there is what is round them, blurred."""
    shape = np.isin(labels, of)
    rest = gaussian((~shape).astype(float), (0, 4, 4)) + 1e-6
    behind = gaussian(np.where(shape[..., None], 0.0, frames), (0, 4, 4, 0), preserve_range=True) / rest[..., None]
    out = np.where(shape[..., None], to_bytes(behind), frames)
    t, y, x = np.nonzero(shape)
    inside = (x + right >= 0) & (x + right < frames.shape[2])
    t, y, x = t[inside], y[inside], x[inside]
    out[t, y, x + right] = frames[t, y, x]
    return out


def lit(frames: Frames, by: NDArray[np.floating]) -> Frames:
    """Frame ``t`` brighter by ``by[t]``, in 8-bit units."""
    return to_bytes(frames + by[:, None, None, None])


def with_head_of(frames: Frames, labels: Labels, head: Frames, head_labels: Labels, of: Sequence[int]) -> Frames:
    """Every frame's head replaced by the other's, stretched to its box."""
    out = frames.copy()
    for t in range(len(frames)):
        ys, xs = np.nonzero(np.isin(labels[t], of))
        others = np.nonzero(np.isin(head_labels[t], of))
        rows, columns = (
            np.round(np.interp(at, (at.min(), at.max()), (other.min(), other.max()))).astype(int)
            for at, other in zip((ys, xs), others, strict=True)
        )
        out[t, ys, xs] = head[t, rows, columns]
    return out
