"""A clip in windows: how it is divided, denoised, and handed out as it is finished."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.progress import Progress
from animate_anyone.sampling.clip_conditions import ClipConditions
from animate_anyone.sampling.deep_features import deep_features
from animate_anyone.sampling.denoising import Denoising, Foretold, Half, Hold, Schedule, State
from animate_anyone.sampling.latents import (
    PLAIN,
    AnimateAnyoneOutput,
    Finish,
    LatentVideoPipeline,
    Output,
    check_finite,
)
from animate_anyone.sampling.ranks import ALONE, Ranks
from animate_anyone.sampling.speed import EXACT, Speed
from animate_anyone.sampling.windows import window_weights, windows, wrapping_windows

StepCallback = Callable[["WindowedPipeline", int, int, dict[str, Tensor]], dict[str, Tensor]]
"""The pipeline, a step's number, its timestep, ``{"latents": ...}`` of the whole clip in; what to go on with out."""


@dataclass(frozen=True)
class Plan:
    """How a clip is denoised.

    Attributes:
        steps: DDIM steps.
        guidance_scale: 1 turns guidance off.
        windows: lists of frame numbers; with continuation segments, one after the other.
        overlap: frames over which windows fade into each other, where the model's do.
        window_batch: windows computed at once.
        ranks: the processes that share the windows.
        speed: what is left out.
        continuation: 0, or frames of a segment that are the last of the one before (Animate Anyone 2).
    """

    steps: int
    guidance_scale: float
    windows: list[list[int]]
    overlap: int
    window_batch: int
    ranks: Ranks = ALONE
    speed: Speed = EXACT
    continuation: int = 0


class Finished(NamedTuple):
    """Frames that are without noise.

    Attributes:
        first: the number of the first of them.
        latents: ``(1, channels, frames, h, w)``.
        state: how far the clip is now.
    """

    first: int
    latents: Tensor
    state: Callable[[], State]


class Shown(NamedTuple):
    """What is told while a clip is denoised.

    Attributes:
        tick: called before the networks are.
        foretold: called after a step of some frames.
    """

    tick: Callable[[], None]
    foretold: Foretold


class Kept(Protocol):
    """Keeps how far a clip is, so that another process can go on with it."""

    def state(self) -> State | None:
        """What was saved last; ``None``: nothing."""
        ...

    def save(self, num_frames: int, state: State) -> None:
        """So many frames of the clip have been handed out and taken; the others need this."""
        ...


@dataclass(frozen=True)
class Clip:
    """A clip that is being denoised.

    Attributes:
        conditions: what the networks are given.
        denoise: begins, or goes on from a state, and hands out what the networks make.
        ranks: the processes that make it together.
        together: frames that are decoded at once; ``None``: as many as suit their size.
    """

    conditions: ClipConditions
    denoise: Callable[[State | None], Iterator[Finished]]
    ranks: Ranks = ALONE
    together: int | None = None


class WindowedPipeline(LatentVideoPipeline):
    """A pipeline that denoises a clip in windows; subclasses say what the networks are given."""

    denoising_unet: DenoisingUNet

    @abstractmethod
    def check_speed(self, speed: Speed) -> None:
        """Raise :class:`InputError` where this model cannot leave out what is asked for."""

    @abstractmethod
    def _predict(
        self, conditions: ClipConditions, noisy: Tensor, t: Tensor, chunk: list[list[int]], half: Half | None = None
    ) -> Tensor:
        """What the networks predict, see :data:`~animate_anyone.sampling.denoising.Predict`."""

    @torch.no_grad()
    def _frames(
        self, clip: Clip, kept: Kept | None = None, finish: Finish = PLAIN.finish
    ) -> Iterator[NDArray[np.uint8]]:
        # 4. Decode what is finished.
        before = None if kept is None else clip.ranks.of_first(kept.state)
        reached: Callable[[], State] | None = None

        def parts() -> Iterator[tuple[int, Tensor]]:
            nonlocal reached
            if before is not None and before["waiting"].shape[2]:
                yield int(before["decoded"]), before["waiting"].to(self._execution_device)
            for first, latents, state in self._finished(clip, before):
                reached = state
                yield first, latents

        def after_part(first: int, waiting: Tensor) -> None:
            clip.conditions.drop_before(first)
            if kept is not None and reached is not None and clip.ranks.is_first:
                waits = {"decoded": torch.tensor(first), "waiting": waiting.cpu().contiguous()}
                kept.save(first, {**reached(), **waits})

        size = self._frame_size(clip.conditions.grid)
        out = Output(finish, after_part, clip.ranks, clip.together)
        yield from self._decode(parts(), clip.conditions.guess, size, out)
        self.maybe_free_model_hooks()

    @torch.no_grad()
    def _finished(self, clip: Clip, state: State | None = None) -> Iterator[Finished]:
        """The latents of a clip, part after part."""
        for finished in clip.denoise(state):
            guess = clip.conditions.guess.of(range(finished.first, finished.first + finished.latents.shape[2]))
            latents = guess.restore(finished.latents)
            check_finite(self.networks, latents, "the latents hold")
            if getattr(self, "_all_hooks", None):  # networks that wait elsewhere: the autoencoder now needs their room
                self.maybe_free_model_hooks()
            yield finished._replace(latents=latents)
            if getattr(self, "_all_hooks", None):
                self.maybe_free_model_hooks()

    def _finish(
        self, clip: Clip, output_type: Literal["np", "latent"], return_dict: bool
    ) -> AnimateAnyoneOutput | tuple[Any]:
        """What a call returns of a clip."""
        result = self._all_latents(clip) if output_type == "latent" else np.stack(list(self._frames(clip)))
        return AnimateAnyoneOutput(frames=result) if return_dict else (result,)

    def plan(
        self,
        num_frames: int,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
        window_stride: int = 1,
    ) -> list[list[int]]:
        """Find out, before anything long, whether this model can work so; arguments as in a call.

        Returns:
            The windows, each a list of frame numbers.

        Raises:
            InputError: a setting is out of range for this model.
        """
        steps, guidance_scale, window, overlap = self._settings(num_inference_steps, guidance_scale, window, overlap)
        most = self.scheduler.config["num_train_timesteps"]
        if not 1 <= steps <= most:
            raise InputError(f"{steps} denoising steps: give 1 to {most}")
        if not math.isfinite(guidance_scale):
            raise InputError(f"guidance {guidance_scale}: give a finite number; 1 turns guidance off")
        if self.config["aggregation"] == "wrap":
            schedule = wrapping_windows(num_frames, window, overlap, window_stride)
        elif window_stride == 1:
            schedule = windows(num_frames, window, overlap)
        else:
            raise InputError(f"window stride {window_stride}: this model's windows fade; it goes with wrap alone")
        longest = self.denoising_unet.config["motion_max_seq_length"]
        if self.denoising_unet.config["use_motion_module"] and len(schedule[0]) > longest:
            raise InputError(f"window is {window}; the temporal layers of this model take at most {longest} frames")
        return schedule

    def _plan(
        self,
        num_frames: int,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
        window_batch: int = 1,
        ranks: Ranks = ALONE,
        speed: Speed = EXACT,
        **more: int,
    ) -> Plan:
        """How a clip will be denoised; ``more`` as in :meth:`plan`. Raises :class:`InputError` as that does."""
        self.check_speed(speed)
        if window_batch < 1:
            raise InputError(f"window_batch is {window_batch}; it must be at least 1")
        steps, guidance_scale, window, overlap = self._settings(num_inference_steps, guidance_scale, window, overlap)
        planned = self.plan(num_frames, steps, guidance_scale, window, overlap, **more)
        how = overlap, window_batch, ranks, speed, more.get("continuation", 0)
        return Plan(speed.steps(steps), guidance_scale, planned, *how)

    def _clip(
        self,
        conditions: ClipConditions,
        plan: Plan,
        generator: torch.Generator | None,
        latents: Tensor | None,
        callback: StepCallback | None,
        progress: Progress | None,
    ) -> Clip:
        """A clip that is about to be denoised, with noise for all of it."""
        conditions = replace(conditions, guided=plan.guidance_scale != 1)
        channels = conditions.reference.latent.shape[1]
        noise = self._noise((1, channels, conditions.num_frames, *conditions.grid), generator, latents)
        made = partial(self._denoise, conditions, noise, plan, callback, progress)
        return Clip(conditions, made, plan.ranks, self._decoded_together(conditions, plan))

    def _decoded_together(self, conditions: ClipConditions, plan: Plan) -> int | None:
        """How many frames are decoded at once; ``None``: as many as suit their size."""
        return None

    @torch.no_grad()
    def denoise(
        self,
        conditions: ClipConditions,
        *,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Tensor:
        """The latents ``(1, channels, frames, h, w)`` of a clip, without noise; arguments as in a call.

        Args:
            conditions: from ``encode``; they may be used again, with another seed or other settings.
            settings: what else a call takes of denoising, ``num_inference_steps`` to ``speed``.

        Raises:
            InputError: a setting does not fit the model, or values are not finite.
        """
        plan = self._plan(conditions.num_frames, **settings)
        return self._all_latents(self._clip(conditions, plan, generator, latents, callback_on_step_end, progress))

    def _all_latents(self, clip: Clip) -> Tensor:
        made = torch.cat([finished.latents for finished in self._finished(clip)], 2)
        self.maybe_free_model_hooks()
        return made

    def _settings(self, *given: Any) -> list[Any]:
        """Steps, guidance scale, window and overlap: the model's own where ``None`` is given."""
        names = ("num_inference_steps", "guidance_scale", "window", "overlap")
        return [self.config[name] if value is None else value for name, value in zip(names, given, strict=True)]

    @torch.no_grad()
    def _denoise(
        self,
        conditions: ClipConditions,
        noise: Tensor,
        plan: Plan,
        callback: StepCallback | None,
        progress: Progress | None,
        state: State | None,
    ) -> Iterator[Finished]:
        """Latents without noise, of what the networks make, part after part; from a ``state`` on.

        Raises:
            InputError: they are not finite.
        """
        together = callback is not None or self.config["aggregation"] != "fade"
        batch = len(plan.windows) if together else plan.window_batch * plan.ranks.count
        groups = [plan.windows[first : first + batch] for first in range(0, len(plan.windows), batch)]
        with self._shown(plan, progress, conditions) as shown:
            denoising = self._denoising(conditions, noise, plan, groups, shown, callback)
            if state is not None:
                denoising.go_on(state)
            for first, latents in denoising.run():
                yield Finished(first, latents, denoising.state)

    def _denoising(
        self,
        conditions: ClipConditions,
        noise: Tensor,
        plan: Plan,
        groups: list[list[list[int]]],
        shown: Shown,
        callback: StepCallback | None = None,
        hold: Hold | None = None,
    ) -> Denoising:
        """Of groups of windows; ``noise`` is of their frames."""
        scheduler = plan.speed.scheduler(self.scheduler, plan.steps, noise.device)
        count = len(scheduler.timesteps)

        def after_step(step: int, t: Tensor, latents: Tensor) -> Tensor:
            check_finite(self.networks, latents, f"step {step + 1} of {count} gave")
            if callback is None:
                return latents
            changed: dict[str, Tensor] = callback(self, step, int(t), {"latents": latents}) or {}
            return changed.get("latents", latents)

        def predict(noisy: Tensor, t: Tensor, chunk: list[list[int]], half: Half | None) -> Tensor:
            shown.tick()
            return self._predict(conditions, noisy, t, chunk, half)

        overlap = plan.overlap if self.config["aggregation"] == "fade" else 0
        weights = window_weights(len(groups[0][0]), overlap)
        start = min(map(min, groups[0]))
        how = plan.guidance_scale, plan.window_batch, plan.speed.guided_steps(count), plan.speed.deep_every
        schedule = Schedule(groups, start + noise.shape[2], weights, *how)
        # Apart, halves differ in last bits: only where processes would have nothing to do throughout the clip.
        apart = getattr(self, "reference_control", None) is None and len(plan.windows) < plan.ranks.count
        together = partial(conditions.make_together, ranks=plan.ranks, device=noise.device)
        prepare = together if plan.ranks.count > 1 else None
        deep = partial(deep_features, self.denoising_unet) if plan.speed.features else None
        return Denoising(
            schedule,
            scheduler,
            predict,
            noise,
            after_step,
            hold,
            ranks=plan.ranks,
            halves_apart=apart,
            prepare=prepare,
            deep_features=deep,
            foretold=shown.foretold,
        )

    @contextmanager
    def _shown(self, plan: Plan, progress: Progress | None, conditions: ClipConditions) -> Iterator[Shown]:
        """Show how many calls of the networks are done, and the frames as they are foretold."""
        total = plan.steps * -(-len(plan.windows) // (plan.window_batch * plan.ranks.count))
        ticks = iter(
            self.progress_bar(range(total)) if progress is None else progress.track(range(total), total, "denoise")
        )

        def tick() -> None:
            next(ticks, None)

        def foretold(first: int, clean: Callable[[], Tensor]) -> None:
            def frame() -> NDArray[np.uint8]:
                restored = conditions.guess.of(range(first, first + 1)).restore(clean())
                return self._decode_together(restored, conditions.guess, first)[0]

            # Where networks wait elsewhere, the autoencoder would have to come for each.
            if progress is not None and plan.ranks.is_first and not getattr(self, "_all_hooks", None):
                with suppress(InputError):  # early guesses may overflow; what is finished is checked by itself
                    progress.preview(frame)

        yield Shown(tick, foretold)
        tick()  # the last is done
