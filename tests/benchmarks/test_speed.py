"""benchmarks/speed.py at tiny size on the CPU: the plain form is the same computation, and the report is whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import tiny


@pytest.fixture
def speed(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """benchmarks/speed.py."""
    return load_benchmark("speed")


@pytest.mark.parametrize("options", [{}, {"reference_blocks": "mid_up"}, {"use_motion_module": False}])
@torch.no_grad()
def test_the_plain_form_is_the_same_computation(speed: ModuleType, options: dict[str, str]) -> None:
    net = tiny.denoising_unet(**options)
    torch.manual_seed(5)
    latents, tokens, pose = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 1, 12), torch.randn(2, 16, 3, 8, 8)
    features = tiny.reference_net()(torch.randn(1, 4, 8, 8), tokens[:1])
    ours = net(latents, 500, tokens, pose, net.project_reference(features, num_unconditional=1))
    torch.testing.assert_close(speed.PlainUNet(net)(latents, 500, tokens, pose, features), ours, rtol=0, atol=1e-5)


@torch.no_grad()
def test_plain_decoding_is_the_same(speed: ModuleType) -> None:
    vae, latents = tiny.pipeline().vae, torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(speed.PlainDecoder(vae)(latents), speed.decode(vae, latents), rtol=0, atol=1e-5)


def test_the_report_is_whole(speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiny.pipeline(size=(64, 64))
    monkeypatch.setattr(speed, "load_pipeline", lambda *_, **__: small)
    output = tmp_path / "speed.md"
    monkeypatch.setattr(
        sys, "argv", ["speed.py", "--tiny", "--device", "cpu", "--frames", "2", "--output", str(output)]
    )
    speed.main()
    text = output.read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    for form in ("guided step, ours without fast upsampling", "decoding 2 frame(s), ours"):
        assert [row[0] for row in rows].count(form) == 2
    measured = [row for row in rows if row[0].startswith(("guided step", "decoding")) and "bfloat16" not in row[0]]
    assert [row[0] for row in measured].count("guided step, plain") == 2
    for row in measured:
        assert len(row) == len(speed.COLUMNS)
        if not row[0].endswith("plain"):
            assert float(row[-1]) < 1e-3
    assert text.count("times as fast.") == 2


def test_every_gain_is_taken_back_once(speed: ModuleType) -> None:
    pipeline = tiny.pipeline()
    given = pipeline, speed.Inputs.of(pipeline, (64, 64), 2), "float32"
    forms = speed.step_forms(*given) | speed.without_one_gain(*given)
    for name in speed.fast_layers():
        forms[f"ours without fast {name}"].prepare()
        faster = speed.fast_layers()[name][1]
        assert not any(isinstance(module, faster) for module in pipeline.denoising_unet.modules())
    forms[speed.OURS].prepare()
    kinds = {type(module) for module in pipeline.denoising_unet.modules()}
    assert {faster for _, faster in speed.fast_layers().values()} <= kinds
    assert isinstance(pipeline.denoising_unet, nn.Module)
