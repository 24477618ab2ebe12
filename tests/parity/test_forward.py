"""One forward of our networks against the reference implementation's, on the same weights (float32).

Run with ``-s`` to see measured beside required; ``--parity DIR`` takes another folder of the same form.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from reference_files import ReferenceFiles, compare

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.reference_net import ReferenceNet

REQUIRED = 1e-4
# The reference implementation without per-frame normalisation in its image stage: it only ever trains
# that network on single frames, where it equals the others; on several frames it normalises over all.
LEFT_OUT = {"stage1_notinflated_frames_nocfg": "normalises over all frames of an image-stage network"}


@pytest.fixture(scope="module")
def files(parity_dir: Path) -> ReferenceFiles:
    return ReferenceFiles(parity_dir)


@cache
def reference_net(files: ReferenceFiles) -> ReferenceNet:
    """To be read only, as :func:`denoising_unet`."""
    return files.reference_net()


@cache
def denoising_unet(files: ReferenceFiles, motion: bool, reference_blocks: str) -> DenoisingUNet:
    return files.denoising_unet(motion, reference_blocks)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    from conftest import find_parity_dir

    folder = find_parity_dir(metafunc.config)
    cases = [] if folder is None else [c for p in ("fwd_", "stage1_") for c in ReferenceFiles(folder).cases(p)]
    metafunc.parametrize("case", cases)


@torch.no_grad()
def test_pose_guider_open_layout(files: ReferenceFiles) -> None:
    tensors = files.tensors("pose_guider")
    compare("pose guider", files.pose_guider()(tensors["pose_image"]), tensors["pose_features"], REQUIRED)


@torch.no_grad()
def test_forward(files: ReferenceFiles, case: str) -> None:
    if files.trimmed:
        pytest.skip("the trimmed fixture holds the first blocks only; give --parity DIR for whole networks")
    if case in LEFT_OUT:
        pytest.skip(f"left out: the reference {LEFT_OUT[case]}")
    settings, tensors = files.settings(case), files.tensors(case)
    blocks = {"full": "all", "midup": "mid_up"}[settings["fusion_blocks"]]
    denoising = denoising_unet(files, "with motion" in settings["denoiser"], blocks)
    # Their rows: [unconditional, conditional] under guidance, else samples of their own.
    unconditional = len(tensors["latents"]) // 2 if settings["do_classifier_free_guidance"] else 0
    token = tensors["encoder_hidden_states"]

    keys_values = None
    if settings["reference_used"]:
        features = reference_net(files)(tensors["ref_latents"][unconditional:], token[unconditional:])
        for name in features:
            if f"bank/{name}" in tensors:
                compare(f"ReferenceNet {name}", features[name][-1:], tensors[f"bank/{name}"], REQUIRED)
        keys_values = denoising.project_reference(features, num_unconditional=unconditional)
    pose = tensors["pose_features"] if settings["pose_cond_fea_given"] else None
    out = denoising(tensors["latents"], tensors["timestep"], token, pose, keys_values)
    compare(case, out, tensors["output"], REQUIRED)


@torch.no_grad()
def test_first_blocks(files: ReferenceFiles) -> None:
    """Runs on the trimmed fixture too: pose slot, reference attention and motion modules, block by block."""
    tensors = files.tensors("fwd_full_cfg")
    token, denoising = tensors["encoder_hidden_states"], files.denoising_unet(True, "all")
    features = reference_net(files)(tensors["ref_latents"][1:], token[1:])
    known = [name for name in features if f"bank/{name}" in tensors]
    assert known
    for name in known:
        compare(f"ReferenceNet {name}", features[name], tensors[f"bank/{name}"], REQUIRED)

    seen: dict[str, torch.Tensor] = {}
    names = [key.removeprefix("den/") for key in tensors if key.startswith("den/")]
    for name in names:
        denoising.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out[0] if isinstance(out, tuple) else out)
        )
    denoising(
        tensors["latents"],
        tensors["timestep"],
        token,
        tensors["pose_features"],
        denoising.project_reference(features, num_unconditional=1),
    )
    frames = tensors["latents"].shape[2]
    for name in names:
        got, want = seen[name], tensors[f"den/{name}"]
        if want.ndim == 5:  # they kept the last row, first and last frame: (1, c, 2, h, w)
            got = got.unflatten(0, (-1, frames))[-1:, [0, -1]].transpose(1, 2)
        compare(f"DenoisingUNet {name}", got, want, REQUIRED)


@torch.no_grad()
def test_a_wrong_build_does_not_pass(files: ReferenceFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure can fail: without the reference, or with normalisation over all frames, it is off by far."""
    tensors = files.tensors("fwd_full_cfg")
    name = "down_blocks.0.motion_modules.0"

    def error(denoising: DenoisingUNet, with_reference: bool) -> float:
        features = reference_net(files)(tensors["ref_latents"][1:], tensors["encoder_hidden_states"][1:])
        seen: list[torch.Tensor] = []
        denoising.get_submodule(name).register_forward_hook(lambda _m, _i, out: seen.append(out))
        keys_values = denoising.project_reference(features, 1) if with_reference else None
        denoising(
            tensors["latents"],
            tensors["timestep"],
            tensors["encoder_hidden_states"],
            tensors["pose_features"],
            keys_values,
        )
        frames = tensors["latents"].shape[2]
        got = seen[0].unflatten(0, (-1, frames))[-1:, [0, -1]].transpose(1, 2)
        return (got - tensors[f"den/{name}"]).abs().max().item()

    assert error(files.denoising_unet(True, "all"), True) <= REQUIRED
    assert error(files.denoising_unet(True, "all"), False) > 0.01
    over_all_frames = files.denoising_unet(True, "all")
    monkeypatch.setattr("animate_anyone.models.denoising_unet.PerFrameGroupNorm.forward", torch.nn.GroupNorm.forward)
    assert error(over_all_frames, True) > 0.01
