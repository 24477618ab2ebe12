"""The loss of the method and what it needs: noise, timesteps, dropped conditions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.errors import InputError


def noised_target(scheduler: DDIMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """The network's input and target at ``timesteps`` (eq. 1, or its velocity form).

    Args:
        latents: ``(batch, ...)``, scaled.
        noise: as ``latents``, standard normal.
        timesteps: ``(batch,)`` in [0, num_train_timesteps).

    Returns:
        ``(noised, target)``, each as ``latents``; the target is the noise or, for a schedule with
        ``prediction_type="v_prediction"``, the velocity, which is defined at zero signal too.
    """
    noised = scheduler.add_noise(latents, noise, timesteps)  # type: ignore[arg-type]
    kind = scheduler.config["prediction_type"]
    if kind == "v_prediction":
        return noised, scheduler.get_velocity(latents, noise, timesteps)  # type: ignore[arg-type]
    if kind == "epsilon":
        return noised, noise
    raise InputError(f"cannot train for prediction_type {kind!r}; 'epsilon' or 'v_prediction'")


def weighted_square(
    prediction: Tensor,
    target: Tensor,
    weight: Tensor,
    mean_weight: Tensor | None = None,
    factor: Tensor | None = None,
) -> Tensor:
    """The squared error, weighted; its mean is the loss. ``weight`` broadcasts against it.

    It is divided by ``mean_weight``, that of all samples of a step; where there is none, by its own mean. ``factor``,
    which broadcasts too, multiplies the error as it is.
    """
    error = (prediction.float() - target.float()).square()
    if factor is not None:
        error = error * factor
    weight = weight / (weight.mean() if mean_weight is None else mean_weight)
    return error * weight


class StepGenerator(torch.Generator):
    """The random numbers of a whole step, on the CPU, in the hands of one of its micro-batches.

    Attributes:
        part, parts: which micro-batch of how many, of all processes together; its samples are those rows of the step.
    """

    part: int = 0
    parts: int = 1


def step_generator(seed: int, step: int, part: int = 0, parts: int = 1) -> StepGenerator:
    """The generator of one micro-batch; all parts of a step are seeded alike, see :func:`part_of_step`."""
    generator = StepGenerator()
    generator.part, generator.parts = part, parts
    generator.manual_seed(_step_seed(seed, step))
    return generator


def part_of_step(draw: Callable[[int, torch.Generator], Tensor], samples: int, generator: torch.Generator) -> Tensor:
    """Random numbers for the ``samples`` of a micro-batch, which how the step is cut has no part in.

    They are drawn for all samples of the step, and the micro-batch takes its own.

    Args:
        draw: a function of the number of samples and the generator; its result has so many rows.
        generator: a :class:`StepGenerator`; with any other the micro-batch is the step.
    """
    part, parts = (getattr(generator, name, default) for name, default in (("part", 0), ("parts", 1)))
    return draw(samples * parts, generator)[part * samples : (part + 1) * samples]


def offset_noise(noise: Tensor, offset: float, shared: bool, generator: torch.Generator) -> Tensor:
    """``noise`` ``(b, k, c, h, w)`` and on each channel of a frame one normal number more, of deviation ``offset``.

    ``shared``: all ``k`` frames get the same numbers. With an offset of 0 nothing is drawn.
    """
    if not offset:
        return noise
    shape = (1 if shared else noise.shape[1], noise.shape[2], 1, 1)
    drawn = part_of_step(lambda n, g: torch.randn((n, *shape), generator=g), len(noise), generator)
    return noise + offset * drawn.to(noise)


def number_dropped(samples: int, share: float, generator: torch.Generator) -> int:
    """How many of ``samples``, from the first on, lose their condition: one independent draw of ``share`` for each.

    Batches are in random order, so dropping the first so many of a step is dropping each with that probability.
    """
    parts = getattr(generator, "parts", 1)
    dropped = int((torch.rand(samples * parts, generator=generator) < share).sum())
    return min(samples, max(0, dropped - samples * getattr(generator, "part", 0)))


def _step_seed(seed: int, step: int) -> int:
    """A seed, in [0, 2**47), that changes with both numbers.

    The mixing is xxHash's for words of 64 bits, in the form that earlier versions used for (seed, step, 0, 0): runs
    that they began go on with the same noise.
    """
    mask, prime_1, prime_2, prime_5 = (1 << 64) - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    mixed = prime_5
    for word in (seed, step, 0, 0):
        mixed = (mixed + word * prime_2) & mask
        mixed = ((mixed << 31) | (mixed >> 33)) & mask
        mixed = (mixed * prime_1) & mask
    return (mixed + (4 ^ prime_5 ^ 3527539)) & 0x7FFF_FFFF_FFFF
