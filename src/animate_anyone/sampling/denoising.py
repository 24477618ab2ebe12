"""The loop of both pipelines: every window at every step, then their mean, then guidance, then a step of the schedule.

Windows that overlap with none of those ahead are denoised on while those have not begun: a group of windows makes its
step as soon as all its frames have made the one before. So the first frames are finished after few windows, whatever
the length of the clip, and the frames that are at work are few. No sum runs in another order than if all windows made
a step before any made the next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.sampling.ranks import ALONE, Ranks
from animate_anyone.sampling.windows import WindowMean

Half = Literal["unconditional", "conditional"]
"""Of what is predicted under guidance."""

Predict = Callable[[Tensor, Tensor, list[list[int]], Half | None], Tensor]
"""Latents ``(windows, channels, frames, h, w)``, timestep, the windows' frames in, and which half is wanted, ``None``
for all; ``(windows, [unconditional, conditional] or one of them, channels, frames, h, w)`` out."""

Hold = Callable[[Tensor, Tensor], Tensor]
"""Latents and the timestep they are about to be denoised at in; the latents that are denoised instead out."""

AfterStep = Callable[[int, Tensor, Tensor], Tensor]
"""A step's number, its timestep and the latents that it gave in; the latents to go on with out."""


Foretold = Callable[[int, Callable[[], Tensor]], None]
"""After a step of some frames: the number of the first of them in, and what gives its latents without noise, ``(1,
channels, 1, h, w)``, as they are foretold now."""

State = dict[str, Tensor]
"""How far a clip is, on the CPU: what another process needs to go on."""


@dataclass(frozen=True)
class Schedule:
    """How the windows of a clip are denoised.

    Attributes:
        groups: windows, lists of frame numbers, that make their steps together. The first frames of groups increase;
            a group's windows have no frames before its first.
        end: the number behind the clip's last frame.
        weights: ``(window,)``, what each frame of a window counts.
        guidance_scale: 1 turns guidance off.
        window_batch: windows computed at once.
        guided_steps: in how many steps both halves are computed, the first ones; ``None``: in all. In the others the
            unconditional half differs from the conditional one as it did in the last of those.
        deep_every: the deep blocks are computed at every so many steps, and what they gave is kept between.
    """

    groups: Sequence[list[list[int]]]
    end: int
    weights: Tensor
    guidance_scale: float
    window_batch: int
    guided_steps: int | None = None
    deep_every: int = 1

    @property
    def starts(self) -> list[int]:
        """The first frame of every group, and :attr:`end`."""
        return [min(map(min, group)) for group in self.groups] + [self.end]

    def is_guided(self, step: int) -> bool:
        """Whether both halves are computed at a step."""
        return self.guidance_scale != 1 and (self.guided_steps is None or step < self.guided_steps)

    def last_whole(self, step: int) -> int:
        """The last step up to this at which the whole network is computed.

        The first one without an unconditional half is among them: what was kept before is of both halves.
        """
        begun = self.guided_steps if self.guided_steps is not None and step >= self.guided_steps else 0
        return step - (step - begun) % self.deep_every


def clean_latents(scheduler: DDIMScheduler, prediction: Tensor, t: Tensor, noisy: Tensor) -> Tensor:
    """The first frame's latents without noise, as a prediction at timestep ``t`` has them; ``(1, c, 1, h, w)``."""
    signal = scheduler.alphas_cumprod[int(t)].to(noisy) ** 0.5
    noise = (1 - signal**2) ** 0.5
    predicted, noisy = prediction[:, :, :1], noisy[:, :, :1]
    kind = scheduler.config["prediction_type"]
    if kind == "v_prediction":
        return signal * noisy - noise * predicted
    return predicted if kind == "sample" else (noisy - noise * predicted) / signal


class _Unit(NamedTuple):
    """What is computed in one call: the ``place``-th of a group's at each step."""

    place: int
    windows: list[list[int]]
    half: Half | None


@dataclass
class _Part:
    """The frames from a group's first to that of the next: they make their steps together.

    Attributes:
        latents: ``(1, channels, frames, h, w)`` float32.
        scheduler: the schedule, with what it remembers of steps before.
        done: steps.
        seen: ``(1, channels, frames, h, w)``, what its group's windows were given at the last step that kept features.
        guidance: the conditional prediction less the unconditional one, of the last step at which both were computed.
        deep: the features that are kept, by the number of a call at each step.
    """

    latents: Tensor
    scheduler: DDIMScheduler
    done: int = 0
    seen: Tensor | None = None
    guidance: Tensor | None = None
    deep: dict[int, list[Tensor]] = field(default_factory=dict)


@dataclass
class Denoising:
    """Latents on their way from noise, of the frames that are at work.

    Attributes:
        schedule: how.
        scheduler: the noise schedule, its timesteps set.
        predict: the networks.
        noise: ``(1, channels, frames, h, w)`` float32, of the frames from the first group's first on.
        after_step: looks at the latents of some frames after each step, and may change them.
        hold: changes latents before each step; for one group alone. ``None``: they stay.
        ranks: the processes that share the windows of a group.
        halves_apart: whether each half under guidance is predicted by itself, where a group has fewer windows than
            there are processes.
        prepare: makes what the networks are given of some frames; called alike in all processes.
        deep_features: the context in which the networks keep features in a list, or take them from there.
        foretold: told after each step.
    """

    schedule: Schedule
    scheduler: DDIMScheduler
    predict: Predict
    noise: Tensor
    after_step: AfterStep
    hold: Hold | None = None
    ranks: Ranks = ALONE
    halves_apart: bool = True
    prepare: Callable[[Sequence[int]], None] | None = None
    deep_features: Callable[[list[Tensor]], AbstractContextManager[None]] | None = None
    foretold: Foretold = lambda first, clean: None
    _parts: dict[int, _Part] = field(default_factory=dict)  # by the group's number: begun and not finished
    _sums: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by step: behind the last part that made it
    _finished: int = 0  # parts

    def state(self) -> State:
        """How far it is: what :meth:`go_on` takes."""
        tensors = {"finished": torch.tensor(self._finished)}
        for number, part in self._parts.items():
            if part.done:  # else it is noise still
                tensors |= {f"part.{number}.latents": part.latents, f"part.{number}.done": torch.tensor(part.done)}
                kept = {"seen": part.seen, "guidance": part.guidance}
                tensors |= {f"part.{number}.{name}": x for name, x in kept.items() if x is not None}
                for place, output in enumerate(getattr(part.scheduler, "model_outputs", ())):
                    tensors |= {} if output is None else {f"part.{number}.output{place}": output}
        for step, (total, weight) in self._sums.items():
            tensors |= {f"sum.{step}.total": total, f"sum.{step}.weight": weight}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    def go_on(self, state: State) -> None:
        """Go on from where another of the same clip was."""
        starts, device = self.schedule.starts, self.noise.device
        self._finished = int(state["finished"])
        for name, tensor in state.items():
            kind, _, rest = name.partition(".")
            number, _, which = rest.partition(".")
            if kind == "part" and which == "latents":
                part = self._part(int(number), starts)
                part.latents, part.done = tensor.to(device), int(state[f"part.{number}.done"])
                seen, guidance = (state.get(f"part.{number}.{name}") for name in ("seen", "guidance"))
                part.seen = None if seen is None else seen.to(device)
                part.guidance = None if guidance is None else guidance.to(device)
                if hasattr(part.scheduler, "model_outputs"):  # as DPM-Solver++ keeps what it goes on from
                    solver: Any = part.scheduler
                    kept = [state.get(f"part.{number}.output{place}") for place in range(len(solver.model_outputs))]
                    solver.model_outputs = [None if output is None else output.to(device) for output in kept]
                    solver.lower_order_nums = min(part.done, len(kept))
                    solver._step_index = part.done
            elif kind == "sum" and which == "total":
                self._sums[int(number)] = tensor.to(device), state[f"sum.{number}.weight"].to(device)

    def run(self) -> Iterator[tuple[int, Tensor]]:
        """Denoise to the end; part after part its first frame's number and its latents, without noise."""
        starts, steps = self.schedule.starts, len(self.scheduler.timesteps)
        while self._finished < len(self.schedule.groups):
            number = self._next(starts, steps)
            self._step(number, starts)
            first = self._finished
            if first in self._parts and self._parts[first].done == steps:
                self._finished += 1
                yield starts[first], self._parts.pop(first).latents

    def _next(self, starts: list[int], steps: int) -> int:
        """The first group that can make a step."""
        number = self._finished
        while True:
            part = self._part(number, starts)
            last = self._last_touched(number, starts)
            if part.done < steps and all(self._part(n, starts).done >= part.done for n in range(number + 1, last + 1)):
                return number
            number += 1

    def _part(self, number: int, starts: list[int]) -> _Part:
        if number not in self._parts:
            frames = slice(starts[number] - starts[0], starts[number + 1] - starts[0])
            self._parts[number] = _Part(self.noise[:, :, frames], _own(self.scheduler))
        return self._parts[number]

    def _last_touched(self, number: int, starts: list[int]) -> int:
        """The number of the last part that a group's windows have frames of."""
        last = max(map(max, self.schedule.groups[number]))
        return bisect_right(starts, last, number, len(starts) - 1) - 1

    def _step(self, number: int, starts: list[int]) -> None:
        """One step of a group's part."""
        schedule, part = self.schedule, self._parts[number]
        step, t = part.done, part.scheduler.timesteps[part.done]
        if self.hold is not None:
            part.latents = self.hold(part.latents, t)
        touched = range(number, self._last_touched(number, starts) + 1)
        latents = torch.cat([self._parts[n].latents for n in touched], 2)
        guided = schedule.is_guided(step)
        mean = WindowMean(latents.expand(1 + guided, -1, -1, -1, -1), schedule.weights, starts[number])
        if step in self._sums:
            mean.begin_with(*self._sums[step])
        group = schedule.groups[number]
        batch = schedule.window_batch
        chunks = [group[first : first + batch] for first in range(0, len(group), batch)]
        halves: tuple[Half | None, ...] = ("conditional",) if schedule.guidance_scale != 1 and not guided else (None,)
        if guided and self.halves_apart and len(chunks) < self.ranks.count:
            halves = ("unconditional", "conditional")
        if self.prepare is not None:
            self.prepare(sorted({frame for window in group for frame in window}))
        units = [_Unit(place, *unit) for place, unit in enumerate(product(chunks, halves))]
        made = self.ranks.share(units, partial(self._predict, part, latents, starts[number]), latents.device)
        for place, chunk in enumerate(chunks):
            predictions = torch.cat(made[place * len(halves) : (place + 1) * len(halves)], 1)
            for frames, prediction in zip(chunk, predictions, strict=True):
                mean.add(frames, prediction)
        prediction = mean.value()[:, :, : part.latents.shape[2]]
        self._sums[step] = mean.from_frame(starts[number + 1])
        if guided:
            unconditional, conditional = prediction.chunk(2)
            difference = conditional - unconditional
            prediction = unconditional + schedule.guidance_scale * difference
            if schedule.guided_steps is not None:
                part.guidance = difference
        elif part.guidance is not None:
            prediction = prediction + (schedule.guidance_scale - 1) * part.guidance
        self.foretold(starts[number], partial(clean_latents, part.scheduler, prediction, t, part.latents))
        last = part.scheduler.step(prediction, t, part.latents, return_dict=False)[0]  # type: ignore[arg-type]
        part.latents, part.done = self.after_step(step, t, last), step + 1
        if schedule.last_whole(part.done) == part.done:
            part.deep, part.seen = {}, None
        elif schedule.last_whole(step) == step:
            part.seen = latents

    def _predict(self, part: _Part, latents: Tensor, start: int, unit: _Unit) -> Tensor:
        """Of some windows, whose ``latents`` begin with frame ``start``, at the step that a part is about to make."""

        def call(step: int, latents: Tensor) -> Tensor:
            noisy = torch.cat([latents[:, :, [frame - start for frame in frames]] for frames in unit.windows])
            return self.predict(noisy, part.scheduler.timesteps[step], unit.windows, unit.half)

        whole = self.schedule.last_whole(part.done)
        if self.deep_features is None or whole == self.schedule.last_whole(part.done + 1) - 1:
            return call(part.done, latents)  # nothing is kept, or not beyond this step
        deep = part.deep.setdefault(unit.place, [])
        with self.deep_features(deep):
            if not deep and whole < part.done:  # gone on with from a state, which does not hold them
                assert part.seen is not None
                call(whole, part.seen)
            return call(part.done, latents)


def _own(scheduler: Any) -> Any:
    """A copy that remembers steps of its own."""
    twin = copy(scheduler)
    if hasattr(twin, "model_outputs"):
        twin.model_outputs = list(twin.model_outputs)
    return twin
