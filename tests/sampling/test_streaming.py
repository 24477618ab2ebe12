"""Frames leave as soon as they are finished, and are those of a sampler that makes each step of the whole clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_pipeline import REFERENCE, noise_pictures

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models import autoencoding
from animate_anyone.sampling.frame_features import FrameFeatures
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.system import frame_store
from diffusers_cases import frames_of, inputs_for

POSES = noise_pictures(1, 40)
CARRIED = noise_pictures(2, 40, 64)


@pytest.fixture(scope="module", params=["paper", "guess"])
def pipeline(request: pytest.FixtureRequest) -> AnimateAnyonePipeline:
    guess = {"reference_latents": True, "carried_reference": True, "keep_detail": True}
    made = tiny.pipeline(**(guess if request.param == "guess" else {}))
    made.set_progress_bar_config(disable=True)
    return made


def options(pipeline: AnimateAnyonePipeline, frames: int = 40, **changes: Any) -> dict[str, Any]:
    return {
        "reference_pose": POSES[0] if pipeline.config["reference_pose"] else None,
        "carried": CARRIED[:frames] if pipeline.config["carried_reference"] else None,
        "num_inference_steps": 3,
        "window": 6,
        "overlap": 2,
        "guidance_scale": 1.0,
        "generator": torch.Generator().manual_seed(0),
        **changes,
    }


def whole(pipeline: AnimateAnyonePipeline, frames: int = 40, **changes: Any) -> NDArray[np.uint8]:
    """Every step of all windows before the next: whoever wants to see all latents after a step gets it so."""
    given = options(pipeline, frames, **changes) | {"callback_on_step_end": lambda *_: {}}
    result: NDArray[np.uint8] = pipeline(REFERENCE, POSES[:frames], **given).frames
    return result


def streamed(pipeline: AnimateAnyonePipeline, frames: int = 40, **changes: Any) -> Iterator[NDArray[np.uint8]]:
    return pipeline.stream(REFERENCE, POSES[:frames], **options(pipeline, frames, **changes))


def test_as_loaded_for_a_cpu() -> None:
    """With the fast layers, which compute as plain ones do where gradients are kept."""
    puppet = load_pipeline("puppet", "cpu")
    frames = list(puppet.stream(**inputs_for(puppet), generator=torch.Generator().manual_seed(0)))
    assert np.array_equal(np.stack(frames), frames_of(puppet))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_inference_steps": 1},
        {"guidance_scale": 2.0},
        {"window": 6, "overlap": 5},  # each frame is in six windows
        {"window": 4, "overlap": 0},
        {"window_batch": 3},
        {"window_batch": 100},
        {"frames": 3},
        {"frames": 7},  # the last window is moved back nearly onto the first
    ],
    ids=str,
)
def test_frames_are_those_of_steps_of_the_whole_clip(pipeline: AnimateAnyonePipeline, changes: dict[str, Any]) -> None:
    assert np.array_equal(np.stack(list(streamed(pipeline, **changes))), whole(pipeline, **changes))


def test_a_call_gives_the_same(pipeline: AnimateAnyonePipeline) -> None:
    called = pipeline(REFERENCE, POSES, **options(pipeline)).frames
    assert np.array_equal(called, whole(pipeline))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four frames are encoded and decoded together."""
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", 4 * 64 * 64)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("steps", [1, 3])
def test_the_first_frame_needs_few_windows(pipeline: AnimateAnyonePipeline, steps: int) -> None:
    """With one step its own window alone; and poses, like all of a frame, are looked at when its window comes."""
    calls, asked = [0], set[int]()

    class Poses(Sequence[NDArray[np.uint8]]):
        def __len__(self) -> int:
            return len(POSES)

        def __getitem__(self, number: Any) -> Any:
            asked.add(number)
            return POSES[number]

    hook = pipeline.denoising_unet.register_forward_hook(lambda *_: calls.append(0))
    frames = pipeline.stream(REFERENCE, Poses(), **options(pipeline, num_inference_steps=steps))
    next(frames)
    first = len(calls) - 1
    assert first == {1: 1, 3: 3 + 2 + 1}[steps]
    assert max(asked) <= 6 + (steps - 1) * 4
    list(frames)
    hook.remove()
    assert len(calls) - 1 == steps * 10  # (40 - 6) / 4 windows and one, at each step


@pytest.mark.usefixtures("small_batches")
def test_what_waits_does_not_grow_with_the_clip(
    pipeline: AnimateAnyonePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of frames that have passed are let go."""
    made, held = list[FrameFeatures](), list[int]()
    right = FrameFeatures.__init__
    monkeypatch.setattr(FrameFeatures, "__init__", lambda self, *given: made.append(self) or right(self, *given))
    for _ in streamed(pipeline):
        held.append(max(len(store) for features in made for store in features._stores))
    # Windows at three steps, one ahead of the other, and the frames of a batch.
    assert max(held) <= 6 + 2 * 4 + 2 * 4


def test_the_store_changes_nothing(pipeline: AnimateAnyonePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that wait in a file, half precision too, come back as they were."""
    in_memory = np.stack(list(streamed(pipeline)))
    monkeypatch.setattr(frame_store.FrameStore.__init__, "__defaults__", (0,))
    assert np.array_equal(in_memory, np.stack(list(streamed(pipeline))))
    values = torch.randn(1, 3, 5, 2, 2).bfloat16()
    features = FrameFeatures(5, 2, lambda frames: (values[:, :, frames.start : frames.stop],))
    assert torch.equal(features.of([4, 0, 3])[0], values[:, :, [4, 0, 3]])


def test_what_does_not_fit_is_told_before_the_first_frame(pipeline: AnimateAnyonePipeline) -> None:
    with pytest.raises(InputError, match="window"):
        pipeline.stream(REFERENCE, POSES, **options(pipeline, window=0))
    with pytest.raises(TypeError):
        pipeline.stream(REFERENCE, POSES, **options(pipeline, output_type="np"))


def test_windows_that_wrap_finish_together() -> None:
    made = tiny.pipeline(aggregation="wrap")
    made.set_progress_bar_config(disable=True)
    given = options(made)
    assert np.array_equal(np.stack(list(streamed(made))), made(REFERENCE, POSES, **given).frames)


class Keeping:
    """Keeps states and frames in memory."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.uint8]] = []
        self.saved: tuple[int, dict[str, torch.Tensor]] | None = None

    def state(self) -> dict[str, torch.Tensor] | None:
        return self.saved and self.saved[1]

    def save(self, num_frames: int, state: dict[str, torch.Tensor]) -> None:
        assert num_frames <= len(self.frames), "all of them are taken before"
        self.saved = num_frames, {name: tensor.clone() for name, tensor in state.items()}

    def take(self, frames: Iterator[NDArray[np.uint8]], most: int) -> bool:
        """Take frames, the next of those that are kept, as if killed after so many; whether it came to the end."""
        del self.frames[self.saved[0] if self.saved else 0 :]
        for count, frame in enumerate(frames):
            if count == most:
                return False
            self.frames.append(frame)
        return True


@pytest.mark.parametrize(
    "changes", [{}, {"guidance_scale": 2.0, "window_batch": 2}, {"num_inference_steps": 1}, {"overlap": 5}], ids=str
)
@pytest.mark.parametrize("batch", [1, 4])
def test_another_process_goes_on(
    pipeline: AnimateAnyonePipeline, changes: dict[str, Any], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again, each time after a few frames: the same frames, though windows are not made twice."""
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", batch * 64 * 64)
    calls = [0]
    hook = pipeline.denoising_unet.register_forward_hook(lambda *_: calls.append(0))
    expected = np.stack(list(streamed(pipeline, **changes)))
    once, kept, times = len(calls), Keeping(), 0
    while not kept.take(streamed(pipeline, kept=kept, **changes), most=13):
        times += 1
    hook.remove()
    assert np.array_equal(np.stack(kept.frames), expected)
    assert 2 <= times <= 6
    assert len(calls) - once < once + times * 2 * changes.get("num_inference_steps", 3)
