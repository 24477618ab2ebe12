"""The loss, and what noise does to latents."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

import tiny
from animate_anyone.errors import InputError
from animate_anyone.training.min_snr import check_min_snr, min_snr_weights
from animate_anyone.training.objective import noised_target, number_dropped, weighted_square


def schedule(**changes: object) -> DDIMScheduler:
    return DDIMScheduler(**{**tiny.SCHEDULER, **changes})


def test_velocity_is_finite_where_no_signal_is_left() -> None:
    """Zero terminal SNR: the last timestep is pure noise, and its target minus the latents."""
    latents, noise = torch.randn(2, 3, 4, 8, 8).unbind()
    noised, target = noised_target(schedule(), latents, noise, torch.full((3,), 999))
    assert torch.isfinite(target).all()
    torch.testing.assert_close(noised, noise)
    torch.testing.assert_close(target, -latents)
    # Without the rescaled schedule a little signal is left.
    noised, _ = noised_target(schedule(rescale_betas_zero_snr=False), latents, noise, torch.full((3,), 999))
    assert (noised - noise).abs().max() > 0.01


@pytest.mark.parametrize("t", [0, 300, 998])
def test_targets_by_hand(t: int) -> None:
    latents, noise = torch.randn(2, 3, 4, 8, 8).unbind()
    made = schedule()
    signal, rest = made.alphas_cumprod[t] ** 0.5, (1 - made.alphas_cumprod[t]) ** 0.5
    noised, velocity = noised_target(made, latents, noise, torch.full((3,), t))
    torch.testing.assert_close(noised, signal * latents + rest * noise)
    torch.testing.assert_close(velocity, signal * noise - rest * latents)
    other, epsilon = noised_target(schedule(prediction_type="epsilon"), latents, noise, torch.full((3,), t))
    torch.testing.assert_close(other, noised)
    assert torch.equal(epsilon, noise)


def test_every_sample_has_its_own_timestep() -> None:
    latents, noise = torch.randn(2, 3, 4, 8, 8).unbind()
    times = torch.tensor([5, 999, 400])
    noised, target = noised_target(schedule(), latents, noise, times)
    for i, t in enumerate(times):
        one, wanted = noised_target(schedule(), latents[i : i + 1], noise[i : i + 1], t[None])
        torch.testing.assert_close(noised[i : i + 1], one)
        torch.testing.assert_close(target[i : i + 1], wanted)


def test_what_the_sampler_undoes() -> None:
    """The training target, given to DDIM as a prediction, leads straight back to the latents."""
    latents, noise = torch.randn(2, 1, 4, 8, 8).unbind()
    for kind in ("v_prediction", "epsilon"):
        made = schedule(prediction_type=kind, rescale_betas_zero_snr=kind == "v_prediction")
        noised, target = noised_target(made, latents, noise, torch.tensor([749]))
        made.set_timesteps(4)
        step = made.step(target, 749, noised)
        torch.testing.assert_close(step.pred_original_sample, latents, rtol=0, atol=1e-4)


def test_other_predictions_are_refused() -> None:
    with pytest.raises(InputError, match="prediction_type 'sample'; 'epsilon' or 'v_prediction'"):
        noised_target(schedule(prediction_type="sample"), *torch.randn(2, 1, 4, 8, 8).unbind(), torch.tensor([3]))


def test_weights_say_where_an_error_counts() -> None:
    prediction, target = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 3.0]]])
    assert weighted_square(prediction, target, torch.ones(())).mean() == 5
    assert weighted_square(prediction, target, torch.tensor([[[1.0, 0.0]]])).mean() == 1
    torch.testing.assert_close(
        weighted_square(prediction, target, torch.full((1, 1, 2), 7.0)).mean(), torch.tensor(5.0)
    )
    torch.testing.assert_close(weighted_square(prediction, target, torch.tensor([3.0, 1.0])).mean(), torch.tensor(3.0))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_share_that_is_dropped(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    counts = [number_dropped(4, share, generator) for _ in range(2000)]
    assert sum(counts) / 8000 == pytest.approx(share, abs=0.02)
    assert set(counts) == ({0} if share == 0 else set(range(5)))


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_by_hand(gamma: float) -> None:
    """``min(SNR, gamma) / (SNR + 1)``; zero where no signal is left."""
    made, times = schedule(), torch.tensor([[0, 300], [700, 998]])
    snr = made.alphas_cumprod[times] / (1 - made.alphas_cumprod[times])
    wanted = torch.minimum(snr, torch.tensor(gamma)) / (snr + 1)
    torch.testing.assert_close(min_snr_weights(made, times, gamma)[..., 0, 0, 0], wanted, rtol=1e-4, atol=1e-7)
    assert min_snr_weights(made, torch.tensor([[999]]), gamma).item() == 0


def test_min_snr_is_for_velocity_alone() -> None:
    check_min_snr(5.0, schedule())
    check_min_snr(None, schedule(prediction_type="epsilon"))
    with pytest.raises(InputError, match=r"objective.min_snr_gamma is 5.0; it needs .*'epsilon'; give") as caught:
        check_min_snr(5.0, schedule(prediction_type="epsilon"))
    assert "\n" not in str(caught.value)


def test_a_factor_is_not_divided_by_its_mean() -> None:
    prediction, target = torch.zeros(2, 1, 2), torch.tensor([[[1.0, 3.0]], [[2.0, 2.0]]])
    factor = torch.tensor([0.5, 0.25])[:, None, None]
    weight = torch.tensor([3.0, 1.0])
    each = (target.square() * weight / 2).mean((1, 2)) * factor.flatten()
    torch.testing.assert_close(weighted_square(prediction, target, weight, factor=factor).mean(), each.mean())
