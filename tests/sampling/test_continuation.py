"""Segments of a model that is shown the frames before: with a tiny real model of Animate Anyone 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import tiny
from animate_anyone.conditions.environment import empty
from animate_anyone.errors import InputError
from animate_anyone.models.temporal_reference import LayerReference, with_temporal_reference
from animate_anyone.sampling import pipeline_environment
from animate_anyone.sampling.continuation import check_continuation, decoded_together, segments
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.memory import estimate
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.scene import SceneInputs

FRAMES, SEGMENT, BEFORE = 9, 4, 2
RANDOM = np.random.default_rng(0)


def pictures(*shape: int) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (*shape, 3), np.uint8)


REFERENCE, POSES, SOURCE = pictures(64, 64), pictures(FRAMES, 128, 128), pictures(FRAMES, 64, 64)
REFERENCE_POSE = np.zeros((128, 128, 3), np.uint8)
CARRIED = pictures(FRAMES, 64, 64)
MASK = np.zeros((FRAMES, 64, 64), bool)
MASK[:, 16:48, 24:40] = True
DEPTH = RANDOM.random((FRAMES, 128, 128)).astype(np.float32)


def made(before: int = BEFORE, **changes: Any) -> AnimateAnyone2Pipeline:
    pipeline = tiny.environment_pipeline(**changes)
    pipeline.set_progress_bar_config(disable=True)
    if before:
        unet = with_temporal_reference(pipeline.denoising_unet, before)
        torch.manual_seed(7)
        for layer in unet.modules():
            if isinstance(layer, LayerReference):
                for linear in layer.to_out:
                    nn.init.normal_(linear.weight, std=0.3)  # type: ignore[arg-type]
        pipeline.register_modules(denoising_unet=unet.eval())
    return pipeline


@pytest.fixture(scope="module", params=["plain", "guess"])
def pipeline(request: pytest.FixtureRequest) -> AnimateAnyone2Pipeline:
    """Without and with a first guess, which the latents are changes of."""
    guess = {"reference_latents": True, "carried_reference": True, "shared_noise": True}
    return made(**(guess if request.param == "guess" else {}))


def inputs(pipeline: AnimateAnyone2Pipeline, environment: NDArray[np.uint8] | None = None, **changes: Any) -> Any:
    scene = SceneInputs(empty(SOURCE, MASK) if environment is None else environment, MASK, None, None, DEPTH)
    options: dict[str, Any] = {
        "reference_pose": REFERENCE_POSE,
        "carried": CARRIED if pipeline.config["carried_reference"] else None,
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "window": SEGMENT,
        "continuation": BEFORE,
        "generator": torch.Generator().manual_seed(0),
    }
    return (REFERENCE, POSES, scene), options | changes


def run(pipeline: AnimateAnyone2Pipeline, environment: NDArray[np.uint8] | None = None, **changes: Any) -> Tensor:
    given, options = inputs(pipeline, environment, **changes)
    latents: Tensor = pipeline(*given, output_type="latent", **options)[0]
    return latents


def far(one: Tensor, other: Tensor) -> list[float]:
    """The largest distance of each frame's latents."""
    return (one - other).abs().amax((0, 1, 3, 4)).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("options", [{}, {"num_inference_steps": 3, "guidance_scale": 2.0}])
def test_each_segment_sees_the_end_of_the_one_before(pipeline: AnimateAnyone2Pipeline, options: dict[str, Any]) -> None:
    """In one step and in several, with guidance too: what is made of frame 3 reaches the second segment and, through
    that, the third; where nothing is shown, it reaches neither.
    """
    changed = empty(SOURCE, MASK)
    changed[3] = 255 - changed[3]
    latents = run(pipeline, **options)
    assert latents.shape[2] == FRAMES
    distance = far(latents, run(pipeline, changed, **options))
    assert min(distance) > 0
    apart = {"continuation": 0, "overlap": 0, **options}
    plain = run(pipeline, window=SEGMENT, **apart)[:, :, :SEGMENT]
    assert torch.equal(plain, latents[:, :, :SEGMENT])  # the first segment has no frames before it
    assert max(far(run(pipeline, **apart), run(pipeline, changed, **apart))[SEGMENT:]) == 0


def test_shown_are_whole_frames_and_their_poses(
    pipeline: AnimateAnyone2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ReferenceNet gets the latents that are decoded, a first guess and its change together."""
    seen: list[tuple[Tensor, Tensor | None]] = []

    def look(unet: Any, network: Any, latents: Tensor, token: Tensor, poses: Tensor | None) -> None:
        seen.append((latents, poses))

    monkeypatch.setattr(pipeline_environment, "see_frames", look)
    latents = run(pipeline)
    assert [one.shape[2] for one, _ in seen] == [BEFORE, BEFORE]
    for (shown, poses), end in zip(seen, (4, 8), strict=True):
        assert torch.equal(shown, latents[:, :, end - BEFORE : end])
        own = pipeline._pose_features(POSES, REFERENCE_POSE, (64, 64), DEPTH).of(range(end - BEFORE, end))[0]
        assert poses is not None
        torch.testing.assert_close(poses, own)


class Counting:
    """Counts the calls of the denoising UNet."""

    def __init__(self, pipeline: AnimateAnyone2Pipeline) -> None:
        self.calls = 0
        self.handle = pipeline.denoising_unet.register_forward_hook(self.count)

    def count(self, *_: Any) -> None:
        self.calls += 1


def test_frames_of_a_segment_leave_before_the_next_begins(pipeline: AnimateAnyone2Pipeline) -> None:
    given, options = inputs(pipeline)
    counting = Counting(pipeline)
    try:
        calls = []
        for _ in pipeline.stream(*given, **options):
            calls.append(counting.calls)
    finally:
        counting.handle.remove()
    assert calls == [1] * SEGMENT + [2] * SEGMENT + [3]


class Keeping:
    """Keeps the state in memory, and stops after so many saves."""

    def __init__(self, state: Any = None, stop: int = 99) -> None:
        self.kept, self.num_frames, self.left = state, 0, stop

    def state(self) -> Any:
        return self.kept

    def save(self, num_frames: int, state: Any) -> None:
        self.num_frames, self.kept, self.left = num_frames, {k: v.clone() for k, v in state.items()}, self.left - 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [1, 2])
def test_gone_on_with_gives_equal_frames(pipeline: AnimateAnyone2Pipeline, stop: int) -> None:
    given, options = inputs(pipeline, num_inference_steps=2, guidance_scale=2.0)

    def stream(kept: Keeping) -> Any:
        return pipeline.stream(*given, kept=kept, **{**options, "generator": torch.Generator().manual_seed(0)})

    whole = list(stream(Keeping()))
    stopped = Keeping(stop=stop)
    frames: list[NDArray[np.uint8]] = []
    with pytest.raises(KeyboardInterrupt):
        for frame in stream(stopped):
            frames.append(frame)
    assert stopped.num_frames == len(frames) == stop * SEGMENT
    frames += stream(Keeping(stopped.kept))
    assert np.array_equal(np.stack(frames), np.stack(whole))


def test_saved_and_loaded(pipeline: AnimateAnyone2Pipeline, tmp_path: Any) -> None:
    """What a model takes of frames before travels with it; the estimate counts ReferenceNet's way."""
    pipeline.save_pretrained(tmp_path / "model")
    again = load_pipeline(tmp_path / "model", "cpu", "float32")
    assert isinstance(again, AnimateAnyone2Pipeline)
    again.set_progress_bar_config(disable=True)
    torch.testing.assert_close(run(again), run(pipeline), rtol=0, atol=1e-4)
    shapes = load_shapes(tmp_path / "model")
    assert isinstance(shapes, AnimateAnyone2Pipeline)
    assert shapes.plan(FRAMES, window=SEGMENT, continuation=BEFORE) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    work = Work((64, 64), FRAMES, SEGMENT, dtype=torch.float32)
    shown, not_shown = (
        estimate(load_shapes(tmp_path / "model"), one) for one in (Work(**{**vars(work), "before": BEFORE}), work)
    )
    networks = [step.network for step in shown.steps if step.phase == "denoising"]
    assert networks == ["reference_net", "denoising_unet"]
    assert len(shown.steps) == len(not_shown.steps) + 1


@pytest.mark.parametrize(
    ("before", "changes", "message"),
    [
        (BEFORE, {"continuation": 1}, "continuation is 1; this model was trained to see 2 frames before; give that or"),
        (BEFORE, {"continuation": -1}, "continuation is -1"),
        (BEFORE, {"window": 0}, "window 0"),
        (BEFORE, {"window": 17}, "window is 17; the temporal layers of this model take at most 16"),
        (0, {}, "nothing to go on from in 1 step: this model was not trained for it"),
    ],
)
def test_mistakes_with_continuation(before: int, changes: dict[str, Any], message: str) -> None:
    model = made(before)
    model_options = {"frames": 9, "steps": 1, "continuation": BEFORE, "window": SEGMENT} | changes
    with pytest.raises(InputError, match=message) as told:
        model.plan(
            20 if changes.get("window", 0) > 16 else model_options["frames"],
            model_options["steps"],
            window=model_options["window"],
            continuation=model_options["continuation"],
        )
    assert "\n" not in str(told.value)


def test_windows_that_wrap_are_refused() -> None:
    with pytest.raises(InputError, match="wrap round"):
        check_continuation(made().denoising_unet, {"aggregation": "wrap"}, BEFORE, 1, SEGMENT)


def test_segments() -> None:
    assert segments(5, 2) == [[0, 1], [2, 3], [4]]
    assert segments(4, 2) == [[0, 1], [2, 3]]
    assert [decoded_together(*pair) for pair in ((16, 8), (12, 8), (13, 8), (5, 32), (24, 1))] == [8, 6, 1, 5, 1]
