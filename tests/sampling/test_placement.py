"""How a pipeline is put onto a machine: what is refused, and that frames stay the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import CpuOffload
from diffusers.hooks.group_offloading import ModuleGroup
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

import reference_paths
import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.folder import bytes_on_disk
from animate_anyone.models.pipeline_options import WITH_REFERENCE_NET
from animate_anyone.models.reference_attention import spatial_attention_layers
from animate_anyone.models.reference_control import CONTROLLED, REFERENCE_PATHS
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.sampling import placement as room
from animate_anyone.sampling.loading import head_sizes, load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import (
    ATTENTIONS,
    OFFLOADS,
    QUANTIZED_PARTS,
    QUANTIZERS,
    Placement,
    check_attention,
    choose_device,
    choose_dtype,
    put,
    quantization_config,
)

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
POSES = RANDOM.integers(0, 256, (10, 128, 128, 3), np.uint8)


def frames(pipeline: AnimateAnyonePipeline, side: int = 64) -> NDArray[np.uint8]:
    """Ten frames in two windows, as ``animate`` makes them: latents, then frame by frame."""
    poses = np.kron(POSES, np.ones((1, side // 64, side // 64, 1), np.uint8))
    own = poses[0] if pipeline.config["reference_pose"] else None
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        np.ascontiguousarray(poses[0, :side, :side]),
        poses,
        reference_pose=own,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames
    return np.stack(list(pipeline.decode(latents)))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.uint8]:
    pipeline = tiny.pipeline()
    put(pipeline, Placement(), CPU)
    return frames(pipeline)


@pytest.mark.parametrize(("layout", "times"), [(torch.channels_last, 1), (torch.contiguous_format, 0)])
def test_freed_memory_is_kept_for_wide_networks_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format, times: int
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(room, "keep_freed", lambda: told.append(True))
    monkeypatch.setattr(room, "choose_memory_format", lambda network, device: layout)
    room.make_fast_on_cpu([tiny.denoising_unet(), None])
    assert len(told) == times


def far(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """The largest difference, of 255."""
    return int(np.abs(one.astype(int) - other).max())


def test_devices_and_dtypes() -> None:
    assert choose_device("cpu") == CPU
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    for device in ("cuda:99", "nothing", "meta"):
        with pytest.raises(InputError, match=f"device '{device}' is not there"):
            choose_device(device)
    with pytest.raises(InputError, match="dtype 'int8' is not known"):
        choose_dtype("int8", CPU)
    assert Placement("cpu", "float16").resolve() == (CPU, torch.float16)


@pytest.mark.parametrize(("has_units", "large"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_a_gpu_goes_by_the_model(monkeypatch: pytest.MonkeyPatch, has_units: bool, large: torch.dtype) -> None:
    """What the shipped models compute does not fit float16: `auto` never takes it for them."""
    monkeypatch.setattr("animate_anyone.sampling.placement.has_bfloat16_units", lambda device: has_units)
    gpu = torch.device("cuda")
    assert choose_dtype("auto", gpu) == choose_dtype("auto", gpu, 5 << 30) == large
    for name in SHIPPED:
        assert choose_dtype("auto", gpu, bytes_on_disk(name)) == torch.float32
        assert choose_dtype("float16", gpu, bytes_on_disk(name)) == torch.float16


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"offload": "disk"}, "offload 'disk' is not known; give none, model, group"),
        ({"attention": "eyes"}, "attention 'eyes' is not known; give auto, .*native"),
        ({"attention": "flash_hub"}, "attention 'flash_hub' is not known"),  # would run code from the net
        ({"quantize": "int2"}, "quantize 'int2' is not known; give none, bitsandbytes-8bit"),
        ({"quantize": "torchao-int8", "offload": "group"}, "quantize torchao-int8 does not go with offload group"),
        ({"compile": True, "offload": "model"}, "compile does not go with offload model"),
    ],
)
def test_unknown_names(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Placement(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"offload": "model"}, "offload model needs a GPU, and the device is cpu"),
        ({"offload": "group"}, "offload group needs a GPU, and the device is cpu"),
        ({"compile": True}, "compile needs a CUDA GPU, and the device is cpu"),
        ({"quantize": "bitsandbytes-8bit"}, "quantize bitsandbytes-8bit needs a CUDA GPU, and the device is cpu"),
        ({"quantize": "bitsandbytes-4bit"}, "quantize bitsandbytes-4bit needs a CUDA GPU, and the device is cpu"),
        ({"attention": "_native_cudnn"}, "attention '_native_cudnn' does not work here .cpu, float32.: "),
        ({"dtype": "int8"}, "dtype 'int8' is not known"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
    ],
)
def test_refused_on_a_cpu_before_anything_is_loaded(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(AnimateAnyonePipeline, "from_pretrained", None)
    with pytest.raises(InputError, match=message) as caught:
        load_pipeline(tiny_model, placement=Placement(**{"device": "cpu", **wrong}))
    assert "\n" not in str(caught.value)


def test_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.models.attention_dispatch._CAN_USE_FLASH_ATTN", False)
    with pytest.raises(
        InputError, match=r"attention 'flash' does not work here .cpu, float32.: .*flash-attn"
    ) as caught:
        check_attention("flash", [16], CPU, torch.float32)
    assert "\n" not in str(caught.value)


def test_attention_is_tried_with_the_networks_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels take some sizes of heads and not others."""
    seen: list[int] = []

    def kernel(query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(query.shape[-1])
        if query.shape[-1] == 8:
            raise ValueError("no heads of 8\nmore")
        return query

    monkeypatch.setattr(room, "dispatch_attention_fn", kernel)
    unet = tiny.denoising_unet()
    assert head_sizes(unet) == {8}
    check_attention("native", [16, 4], CPU, torch.float32)
    assert seen == [4, 16]
    with pytest.raises(InputError, match="no heads of 8; give auto"):
        check_attention("native", head_sizes(unet), CPU, torch.float32)


def test_names_are_diffusers_own() -> None:
    assert {"native", "_native_math", "flash", "sage", "xformers"} <= set(ATTENTIONS)
    assert set(ATTENTIONS) < {backend.value for backend in AttentionBackendName}
    assert not [name for name in ATTENTIONS if "hub" in name]


@pytest.mark.parametrize("attention", ["native", "_native_math"])
def test_attention_backends_give_the_same_frames(
    tiny_model: Path, plain: NDArray[np.uint8], attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _AttentionBackendRegistry.get_active_backend()
    pipeline = load_pipeline(tiny_model, placement=Placement(device="cpu", attention=attention))
    assert _AttentionBackendRegistry.get_active_backend() == before
    used: list[Any] = []
    name = "animate_anyone.models.reference_attention.dispatch_attention_fn"
    from animate_anyone.models.reference_attention import dispatch_attention_fn as real

    monkeypatch.setattr(name, lambda *args, backend: used.append(backend) or real(*args, backend=backend))
    assert far(frames(pipeline), plain) <= 1
    assert set(used) == {AttentionBackendName(attention)}


def test_pose_modulation_attends_by_the_same_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.environment_pipeline().save_pretrained(tmp_path / "model")
    tried: list[Any] = []
    from animate_anyone.sampling import loading

    monkeypatch.setattr(loading, "check_attention", lambda name, sizes, *rest: tried.append(set(sizes)))
    pipeline = load_pipeline(tmp_path / "model", placement=Placement(device="cpu", attention="_native_math"))
    attention = pipeline.pose_modulation.attention
    assert attention.head_size in tried[0]
    used: list[Any] = []
    name = "animate_anyone.models.pose_modulation.dispatch_attention_fn"
    from animate_anyone.models.pose_modulation import dispatch_attention_fn as real

    monkeypatch.setattr(name, lambda *args, backend: used.append(backend) or real(*args, backend=backend))
    channels = attention.to_out.out_features
    attention(torch.zeros(1, channels, 4, 4), torch.zeros(1, channels, 4, 4))
    assert used == [AttentionBackendName("_native_math")]


def test_tiling(tiny_model: Path, plain: NDArray[np.uint8]) -> None:
    """Frames of the VAE's own size are one tile; larger ones are cut."""
    whole = load_pipeline(tiny_model, "cpu")
    tiled = load_pipeline(tiny_model, placement=Placement(device="cpu", vae_tiling=True))
    assert np.array_equal(frames(tiled), plain)
    one, other = frames(whole, side=128), frames(tiled, side=128)
    assert one.shape == other.shape == (10, 128, 128, 3)
    assert far(one, other) > 1  # much: an untrained VAE, which normalises each tile by itself


class _Watch(TorchFunctionMode):
    """Fails where a layer computes with weights that nobody has brought in."""

    def __init__(self, pipeline: AnimateAnyonePipeline) -> None:
        super().__init__()
        networks = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
        self.names = {id(w): f"{type(net).__name__}.{n}" for net in networks for n, w in net.named_parameters()}
        self.there: set[int] = set()
        self.checked: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("linear", "conv2d", "group_norm", "layer_norm"):
            for tensor in (*args, *(kwargs or {}).values()):
                if id(tensor) in self.names:
                    self.checked.add(self.names[id(tensor)])
                    assert id(tensor) in self.there, f"{self.names[id(tensor)]} is not there"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AnimateAnyonePipeline, _Watch]]:
    """A pipeline whose offloaded weights count as there only between being brought in and sent back."""
    pipeline = tiny.pipeline()
    watch = _Watch(pipeline)

    def weights(group: ModuleGroup) -> set[int]:
        return {id(w) for w in (*group.parameters, *(w for module in group.modules for w in module.parameters()))}

    onload, offload, before = ModuleGroup.onload_, ModuleGroup.offload_, CpuOffload.pre_forward

    def bring(group: ModuleGroup) -> None:
        onload(group)
        watch.there |= weights(group)

    def send(group: ModuleGroup) -> None:
        offload(group)
        watch.there -= weights(group)

    def enter(hook: CpuOffload, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if hook.prev_module_hook is not None:
            watch.there -= {id(w) for w in hook.prev_module_hook.model.parameters()}
        watch.there |= {id(w) for w in module.parameters()}
        return before(hook, module, *args, **kwargs)

    monkeypatch.setattr(ModuleGroup, "onload_", bring)
    monkeypatch.setattr(ModuleGroup, "offload_", send)
    monkeypatch.setattr(CpuOffload, "pre_forward", enter)
    yield pipeline, watch


@pytest.mark.parametrize("offload", [o for o in OFFLOADS if o != "none"])
def test_offloaded_weights_are_there_when_they_are_needed(
    watched: tuple[AnimateAnyonePipeline, _Watch], plain: NDArray[np.uint8], offload: str
) -> None:
    """diffusers' hooks bring in every weight before it is used: tried on a CPU, where nothing really moves."""
    pipeline, watch = watched
    put(pipeline, Placement(offload=offload), CPU)
    with watch:
        assert np.array_equal(frames(pipeline), plain)
        assert np.array_equal(frames(pipeline), plain)  # once more, after everything was sent back
    for part in ("DenoisingUNet.up_blocks", "ReferenceNet.down_blocks", "PoseGuider", "CLIP", "AutoencoderKL.decoder"):
        assert any(name.startswith(part) for name in watch.checked), part


def test_the_watch_notices(watched: tuple[AnimateAnyonePipeline, _Watch]) -> None:
    """Groups of whole blocks would not do: `project_reference` calls layers inside them."""
    pipeline, watch = watched
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    others = [part for name, part in networks.items() if name != "denoising_unet"]
    watch.there |= {id(weight) for part in others for weight in part.parameters()}
    pipeline.denoising_unet.enable_group_offload(CPU, offload_type="block_level", num_blocks_per_group=1)
    with watch, pytest.raises(AssertionError, match=r"DenoisingUNet.*to_k.* is not there"):
        frames(pipeline)


def test_repeated_blocks_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, *_, **__: compiled.append(module))
    pipeline = tiny.pipeline()
    put(pipeline, Placement(), CPU)
    assert compiled == []
    put(pipeline, Placement(compile=True), CPU)
    unet = pipeline.denoising_unet
    spatial, temporal = len(spatial_attention_layers(unet)), len(unet.motion_modules())
    kinds = [type(module).__name__ for module in compiled]
    assert kinds.count("BasicTransformerBlock") == spatial + temporal
    assert kinds.count("ResnetBlock2D") == len(kinds) - spatial - temporal > 0


@pytest.mark.parametrize("path", REFERENCE_PATHS[1:])
def test_every_way_of_the_reference_can_be_put(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The designs that are compared: attention backends where there is a choice, offloading of what there is."""
    pipeline = reference_paths.pipeline(path, guidance_scale=1.0)
    put(pipeline, Placement(), CPU)
    want = frames(pipeline)
    put(pipeline, Placement(attention="_native_math", vae_tiling=True), CPU)
    chosen = [getattr(p, "_attention_backend", None) for p in pipeline.denoising_unet.attn_processors.values()]
    assert AttentionBackendName("_native_math") in chosen
    assert far(frames(pipeline), want) <= 1
    brought: set[str] = set()
    before = CpuOffload.pre_forward

    def enter(hook: CpuOffload, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        brought.add(type(module).__name__)
        return before(hook, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", enter)
    put(pipeline, Placement(offload="model"), CPU)
    assert far(frames(pipeline), want) <= 1
    assert ("ReferenceControl" in brought) == (path in CONTROLLED)
    assert ("ReferenceNet" in brought) == (path in WITH_REFERENCE_NET)
    assert ("ReferenceResNet" in brought) == (path == "resnet")
    pipeline = reference_paths.pipeline(path, guidance_scale=1.0)
    put(pipeline, Placement(offload="group"), CPU)
    assert np.array_equal(frames(pipeline), want)


def installed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Pretend that the quantisers' packages are there; returns what was asked for."""
    asked: list[tuple[str, str]] = []
    fake = SimpleNamespace(Int8WeightOnlyConfig=lambda: "int8")
    monkeypatch.setattr(room, "require", lambda module, extra: asked.append((module, extra)) or fake)
    for name in ("BitsAndBytesConfig", "TransformersBitsAndBytesConfig", "TorchAoConfig", "TransformersTorchAoConfig"):
        library = "transformers" if name.startswith("Transformers") else "diffusers"
        monkeypatch.setattr(room, name, lambda library=library, **options: (library, options))
    monkeypatch.setattr(room, "PipelineQuantizationConfig", lambda quant_mapping: quant_mapping)
    return asked


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bitsandbytes-8bit", {"load_in_8bit": True}),
        (
            "bitsandbytes-4bit",
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
        ),
        ("torchao-int8", {"quant_type": "int8"}),
    ],
)
def test_quantisers_names_become_configurations(
    monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    asked = installed(monkeypatch)
    made: Any = quantization_config(name, torch.bfloat16)
    assert made == {
        "denoising_unet": ("diffusers", options),
        "reference_net": ("diffusers", options),
        "image_encoder": ("transformers", options),
    }
    assert set(made) == set(QUANTIZED_PARTS)
    assert asked[0] == (QUANTIZERS[name], QUANTIZERS[name])


def test_configurations_take_these_options() -> None:
    """diffusers' and transformers' own classes, where they can be made without their package."""
    for kind in (room.BitsAndBytesConfig, room.TransformersBitsAndBytesConfig):
        assert kind(load_in_8bit=True).load_in_8bit
    assert quantization_config("none", torch.float16) is None


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantiser_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = QUANTIZERS[name]
    monkeypatch.setitem(__import__("sys").modules, package, None)  # as if it were not there
    with pytest.raises(InputError, match=package) as caught:
        quantization_config(name, torch.float16)
    assert f'pip install "animate-anyone[{package}]"' in str(caught.value)
    assert "\n" not in str(caught.value)
    extras = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert f'\n{package} = ["{package}' in extras


def test_quantised_weights(tiny_model: Path) -> None:
    pytest.importorskip("torchao", reason='torchao is not installed: pip install "animate-anyone[torchao]"')
    pipeline = load_pipeline(tiny_model, placement=Placement(device="cpu", quantize="torchao-int8"))
    small = pipeline.denoising_unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    assert type(small) is not torch.nn.Parameter
    assert type(pipeline.vae.decoder.conv_in.weight) is torch.nn.Parameter
    assert far(frames(pipeline), frames(load_pipeline(tiny_model, "cpu"))) < 64


def test_placement_takes_the_place_of_device_and_dtype(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    pipeline = load_pipeline(folder, placement=Placement("cpu", "bfloat16"))
    assert pipeline.denoising_unet.dtype == pipeline.vae.dtype == torch.bfloat16
    assert load_pipeline(folder, "cpu", "float32").denoising_unet.dtype == torch.float32
