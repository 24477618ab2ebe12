"""LPIPS, FID, FID-VID and FVD with narrow random networks, saved in the layouts of the published files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor

import small_backbones
from animate_anyone.errors import InputError
from animate_anyone.evaluation import perceptual, weights
from animate_anyone.evaluation.backbones import i3d, inception, lpips_vgg, resnet3d
from animate_anyone.evaluation.perceptual import Distribution, Lpips

CPU = torch.device("cpu")
SHRINK = small_backbones.SHRINK


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "SHRINK", SHRINK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_backbones.save_all(tmp_path_factory.mktemp("metrics"))


def frames(count: int, seed: int, size: tuple[int, int] = (40, 32)) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("network", "tensors", "parameters", "some"),
    [
        (lpips_vgg.VGG, 26, 14_714_688, {"features.0.weight": (64, 3, 3, 3), "features.28.bias": (512,)}),
        (lpips_vgg.Weights, 5, 1472, {"lin0.model.1.weight": (1, 64, 1, 1), "lin4.model.1.weight": (1, 512, 1, 1)}),
        (
            inception.Inception,
            94 * 5,
            21_785_568,
            {"Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "Mixed_7c.branch3x3dbl_3b.bn.running_var": (384,)},
        ),
        (
            i3d.I3D,
            57 * 5 + 2,
            12_697_264,
            {
                "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
                "Mixed_5c.b2b.bn.running_mean": (128,),
                "logits.conv3d.bias": (400,),
            },
        ),
        (
            resnet3d.ResNet3D,
            53 * 5,
            46_198_976,
            {"conv1.weight": (64, 3, 7, 7, 7), "layer4.0.downsample.0.weight": (2048, 1024, 1, 1, 1)},
        ),
    ],
)
def test_full_networks_have_the_published_tensors(
    network: Callable[[], torch.nn.Module], tensors: int, parameters: int, some: dict[str, tuple[int, ...]]
) -> None:
    with torch.device("meta"):
        made = network()
    shapes = {n: tuple(t.shape) for n, t in made.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert (len(shapes), sum(p.numel() for p in made.parameters())) == (tensors, parameters)
    assert {name: shapes.get(name) for name in some} == some


def test_lpips_by_its_definition(folder: Path) -> None:
    """Features, unit length, weighted squared differences, means: written out from the files' tensors."""
    vgg, lin = (torch.load(folder / source.name) for source in (weights.VGG, weights.LPIPS))

    def features(picture: NDArray[np.uint8], low: float) -> list[Tensor]:
        x = torch.from_numpy(picture / 255).permute(2, 0, 1)[None] * (1 - low) + low
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        out = []
        for resolution in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            for number in resolution:
                weight, bias = (vgg[f"features.{number}.{kind}"].double() for kind in ("weight", "bias"))
                x = F.relu(F.conv2d(x.double(), weight, bias, padding=1))
            out.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
            x = F.max_pool2d(x, 2)
        return out

    first, second = frames(2, 0)
    for name, low in (("[-1, 1]", -1.0), ("[0, 1]", 0.0)):
        levels = zip(features(first, low), features(second, low), strict=True)
        want = sum(
            float(((a - b).square() * lin[f"lin{k}.model.1.weight"].double()).sum(1).mean())
            for k, (a, b) in enumerate(levels)
        )
        measured = Lpips(folder, CPU, name)
        assert measured(first, second) == pytest.approx(want, rel=1e-4)
        assert measured(first, first) == 0
        assert want > 1e-3
    assert Lpips(folder, CPU, "[0, 1]")(first, second) != pytest.approx(measured(first, second[::-1].copy()), rel=1e-3)


def bicubic(picture: NDArray[np.uint8], side: int) -> Tensor:
    channels = [Image.fromarray(picture[..., k].astype(np.float32)) for k in range(3)]
    return torch.from_numpy(np.stack([np.asarray(c.resize((side, side), Image.Resampling.BICUBIC)) for c in channels]))


def less_mean(clips: Tensor) -> Tensor:
    return clips - torch.tensor([114.7748, 107.7354, 99.475]).view(3, 1, 1, 1)


@pytest.mark.parametrize(
    ("metric", "network", "side", "length", "stride", "values"),
    [
        ("fid", inception.Inception, 299, 1, 1, lambda x: (x - 128) / 128),
        ("fid_vid", resnet3d.ResNet3D, 112, 16, 1, less_mean),
        ("fvd", i3d.I3D, 224, 16, 2, lambda x: x / 127.5 - 1),
    ],
)
def test_distance_of_clips(
    folder: Path,
    metric: str,
    network: Callable[[int], torch.nn.Module],
    side: int,
    length: int,
    stride: int,
    values: Callable[[Tensor], Tensor],
) -> None:
    """Clips cut by hand, all features kept, NumPy's covariance and SciPy's root; no clip spans two videos."""
    video_lengths = (length + 1, length + 2) if length > 1 else (3, 17)
    sides = [[frames(n, seed + k) for k, n in enumerate(video_lengths)] for seed in (10, 20)]
    streamed = Distribution(metric, folder, CPU, 16, stride)
    for generated, truth in zip(*sides, strict=True):
        for one, other in zip(generated, truth, strict=True):
            streamed.add(one, other)
        streamed.end_video()
    made = network(SHRINK)
    tensors = torch.load(folder / perceptual.FEATURES[metric].source.name)
    tensors = {n.removeprefix("module."): t for n, t in tensors.get("state_dict", tensors).items()}
    made.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("fc.")}, strict=False)
    made.eval()
    features = []
    for videos in sides:
        clips = [
            torch.stack([bicubic(f, side) for f in video[at : at + length]], dim=1)
            for video in videos
            for at in range(0, len(video) - length + 1, stride)
        ]
        with torch.no_grad():
            ready = [values(clip[None]) for clip in clips]
            features.append(
                np.concatenate([made(c.squeeze(2) if metric == "fid" else c).numpy() for c in ready]).astype(np.float64)
            )
    assert streamed.clips == len(features[0]) == {"fid": 20, "fid_vid": 5, "fvd": 3}[metric]
    assert streamed.dimension == features[0].shape[1] == (400 if metric == "fvd" else 2048 // SHRINK)
    shift = features[0].mean(0) - features[1].mean(0)
    one, other = (np.cov(f, rowvar=False) for f in features)
    # The root of a singular product is taken on the few directions that the clips span.
    basis, _ = np.linalg.qr(np.concatenate([f - f.mean(0) for f in features]).T)
    inner = [basis.T @ c @ basis + 1e-12 * np.eye(basis.shape[1]) for c in (one, other)]
    want = shift @ shift + np.trace(one) + np.trace(other) - 2 * np.trace(sqrtm(inner[0] @ inner[1]).real)
    assert streamed.distance() == pytest.approx(want, rel=1e-3)
    assert want > 1e-6


def test_values_reach_the_networks_in_their_ranges() -> None:
    """White and black as DisCo's script and clean-fid hand them over."""
    edges = torch.tensor([0.0, 255.0]).view(1, 1, 2, 1, 1).expand(1, 3, 2, 1, 1)
    got = {name: made.values(edges)[0, 0, :, 0, 0].tolist() for name, made in perceptual.FEATURES.items()}
    assert got["fid"] == pytest.approx([-1, 127 / 128])
    assert got["fid_vid"] == pytest.approx([-114.7748, 140.2252])
    assert got["fvd"] == pytest.approx([-1, 1])


def test_padding_is_tensorflows() -> None:
    """An odd zero goes behind; of the 7×7×7 convolution of step 2 over 224 pixels: 2 before, 3 behind."""
    x = torch.ones(1, 1, 16, 224, 5)
    padded = i3d._padded(x, (7, 7, 7), (2, 2, 2))
    assert padded.shape == (1, 1, 21, 229, 11)
    assert padded[0, 0, :, 50, 4].tolist() == [0] * 2 + [1] * 16 + [0] * 3
    assert padded[0, 0, 5, :, 4].tolist() == [0] * 2 + [1] * 224 + [0] * 3


class Call:
    """A pickle that would make a folder when read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def spoilt(tmp_path: Path, folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = torch.load(folder / weights.I3D.name)
    torch.save(change(tensors), tmp_path / weights.I3D.name)
    return tmp_path


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("Mixed_5c.b0", "mixed"): t for name, t in tensors.items()}


def test_other_tensors_are_named(tmp_path: Path, folder: Path) -> None:
    bias = "logits.conv3d.bias"
    for change, message in (
        (lambda t: {n: v for n, v in t.items() if n != bias}, f"lacks {bias};"),
        (lambda t: t | {"head.weight": t[bias]}, "has besides head.weight;"),
        (lambda t: t | {bias: torch.zeros(101)}, f"has another shape of {bias};"),
        (renamed, r"lacks Mixed_5c\.b0\.bn\.bias, .* and 1 more; has besides mixed\.bn\.bias"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            Distribution("fvd", spoilt(tmp_path, folder, change), CPU, 16, 1)
        assert "i3d_pretrained_400.pt: is another network's" in str(caught.value)
        assert "remove it, and to get the right file: animate-anyone models pull fvd" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_damaged_and_dangerous_files(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / weights.I3D.name
    whole = (folder / weights.I3D.name).read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "damaged"),
        (b"", "damaged"),
        (pickle.dumps(Call(tmp_path / "made"), protocol=2), "refused, nothing of it was run"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            Distribution("fvd", tmp_path, CPU, 16, 1)
        assert str(file) in str(caught.value)
    torch.save({"state_dict": Call(tmp_path / "made")}, file)
    with pytest.raises(InputError, match="refused, nothing of it was run"):
        Distribution("fvd", tmp_path, CPU, 16, 1)
    assert not (tmp_path / "made").exists()


def test_where_weights_are_looked_for(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (weights.FOLDER_VARIABLE, "ANIMATE_ANYONE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert weights.weights_folder() == Path.home() / ".cache/animate-anyone/metrics"
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    assert weights.weights_folder() == tmp_path
    assert weights.weights_folder(folder) == folder
    for metric in weights.SOURCES:
        assert weights.needed(metric, folder) is None
        told = weights.needed(metric, tmp_path)
        assert told is not None
        for source in weights.SOURCES[metric]:
            assert source.name in told
        name = metric.replace("_", "-")
        assert told.endswith(f'; type: animate-anyone models pull {name} -o "{tmp_path / name}"')
    (tmp_path / weights.VGG.name).touch()
    told = weights.needed("lpips", tmp_path)
    assert told is not None
    assert told.startswith("needs lpips_v0.1_vgg.pth;")
    assert weights.needed("psnr", tmp_path) is None
