"""``animate-anyone models``: list, show, convert, and how they refuse; pulling has its tests in tests/interop."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from command import Shell
from safetensors.torch import load_file, save_file

import published
import reference_paths
import tiny
from animate_anyone.interop import catalog, source
from animate_anyone.interop.source import File, Pinned, Record
from animate_anyone.models.folder import NETWORKS
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.sampling.loading import load_pipeline


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell in an empty folder; pulled weights are looked for in its ``home``."""
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", str(tmp_path / "home"))
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def pulled(folder: Path, data: bytes = b"weights") -> None:
    """What a pull of one file leaves."""
    folder.mkdir(parents=True)
    file = folder / "denoising_unet.pth"
    file.write_bytes(data)
    files = (File(file.name, len(data), source.digests(file)[0], None),)
    source.write(
        folder, Record("moore", "https://mirror", (Pinned("patrolli/AnimateAnyone", "", "main", "c" * 40, files),))
    )


def test_list(shell: Shell, tiny_model: Path) -> None:
    result = shell("models", "list")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert any(re.match(r"  puppet +2\d\.\d MB  Apache-2\.0$", line) for line in lines)
    for entry in catalog.ENTRIES:
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {entry.name} ")]
        assert catalog.shown_size(entry.size) in lines[at] and lines[at].endswith(entry.licence)
        assert ("warning: " in "".join(lines[at + 1 : at + 3])) == (entry.warning is not None)
    assert "non-commercial research only" in result.out
    assert "model folders" not in result.out

    pulled(shell.folder / "home" / "moore")
    (shell.folder / "home" / "moore" / "denoising_unet.pth").write_bytes(b"")
    shutil.copytree(tiny_model, shell.folder / "home" / "my-model")
    result = shell("models", "list")
    (moore,) = [line for line in result.out.splitlines() if line.startswith("  moore ")]
    assert moore.endswith(f"[partly here: {shell.folder / 'home' / 'moore'}]")
    assert re.search(r"model folders in .*home\n  my-model +[\d.]+ [kM]B\n$", result.out)


def test_show_a_model(shell: Shell, model: Path) -> None:
    result = shell("models", "show", "model")
    assert (result.status, result.err) == (0, "")
    pipeline = tiny.pipeline()
    total = 0
    for part, kind in NETWORKS.items():
        # Files hold what is trained; buffers that are computed may be left out.
        weights = sum(t.numel() for f in (model / part).glob("*.safetensors") for t in load_file(f).values())
        assert weights >= sum(p.numel() for p in getattr(pipeline, part).parameters())
        total += weights
        assert re.search(rf"^  {part} +{kind.__name__} +{weights / 1e6:.2f} M weights  float32  ", result.out, re.M)
    assert f"{total / 1e6:.2f} M weights\n" in result.out
    for what, value in {
        "schedule": "scaled_linear betas 0.00085 to 0.012, 1000 timesteps, trailing spacing, offset 0",
        "prediction": "v_prediction, zero terminal SNR",
        "pose guider": "layout paper, widths 4, 8, 8, 8",
        "positions": "16 frames at most in a window",
        "size": "64x64",
        "skeleton style": "scaled",
        "windows": "8 frames, overlap 2",
        "guidance": "2.0",
        "reference_pose": "True",
        "reference_path": "reference_net",
    }.items():
        assert re.search(rf"^  {what}: +{re.escape(value)}$", result.out, re.M), what
    assert "None" not in result.out


@pytest.mark.parametrize(
    ("path", "parts"),
    [("clip", set()), ("controlnet", {"ReferenceControl"}), ("both", {"ReferenceControl"})],
)
def test_show_a_model_without_a_reference_net(shell: Shell, path: str, parts: set[str]) -> None:
    reference_paths.pipeline(path).save_pretrained(shell.folder / "model")
    result = shell("models", "show", "model")
    assert (result.status, result.err) == (0, "")
    assert re.search(rf"^  reference_path: +{path}$", result.out, re.M)
    assert {kind for kind in ("ReferenceNet", "ReferenceControl") if f" {kind} " in result.out} == parts
    assert "None" not in result.out


def test_digest_is_that_of_the_weights(shell: Shell, model: Path) -> None:
    def digest() -> str:
        found = re.search(r"weights digest: +sha256:([0-9a-f]{64})\n", shell("models", "show", "model").out)
        assert found
        return found[1]

    first = digest()
    (model / "notes.txt").write_text("nothing of the weights")
    assert digest() == first
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = min(weights)
    weights[name] = weights[name] + 1e-3
    save_file(weights, file, metadata={"format": "pt"})
    assert digest() != first
    assert "digest" not in shell("models", "show", "model", "--no-digest").out


def test_show_says_what_else_is_set(shell: Shell, model: Path) -> None:
    scheduler = model / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "rescale_betas_zero_snr": False}))
    unet = model / "denoising_unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v.half() for k, v in load_file(unet).items()}, unet, metadata={"format": "pt"})
    out = shell("models", "show", "model").out
    assert "v_prediction, not zero terminal SNR" in out
    assert re.search(r"denoising_unet +DenoisingUNet +[0-9.]+ M weights  float16", out)


@pytest.mark.skipif("puppet" not in SHIPPED, reason="no model is shipped")
def test_show_puppet(shell: Shell) -> None:
    result = shell("models", "show", "puppet")
    assert (result.status, result.err) == (0, "")
    assert re.search(r"^  size: +128x128$", result.out, re.M)


def test_show_published_weights(shell: Shell) -> None:
    result = shell("models", "show", "musepose")
    assert result.status == 0
    assert "warning: the weights are for non-commercial research only" in result.out
    assert "    MusePose/denoising_unet.pth\n" in result.out
    assert "to get it: animate-anyone models pull musepose" in result.out
    assert "computed" in shell("models", "show", "novita").out
    pulled(shell.folder / "home" / "moore")
    for name in ("moore", "home/moore"):
        out = shell("models", "show", name).out
        assert f"moore: moore, whole, from https://mirror\n  patrolli/AnimateAnyone at {'c' * 40} (main)\n" in out
        assert f"denoising_unet.pth  7 B  sha256:{source.digests(Path('home/moore/denoising_unet.pth'))[0]}" in out


def remove_part(model: Path) -> None:
    shutil.rmtree(model / "vae")


def rename_key(model: Path) -> None:
    file = model / "pose_guider" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_inn.weight"] = weights.pop("conv_in.weight")
    save_file(weights, file, metadata={"format": "pt"})


def damage_schedule(model: Path) -> None:
    (model / "scheduler" / "scheduler_config.json").write_text("[")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_part, r"its part vae/ is missing"),
        (rename_key, r"pose_guider has (no conv_in\.weight|an unknown conv_inn\.weight)"),
        (damage_schedule, r"scheduler_config\.json"),
    ],
)
def test_show_refuses_what_would_not_load(shell: Shell, model: Path, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(model)
    assert re.search(message, shell.refused("models", "show", "model"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "pupet"], "pupet: no weights of that name are known; did you mean puppet"),
        (["show", "./nowhere"], "nowhere: no model of that name and no such folder"),
        (["show", "."], "no model_index.json there"),
        (["pull", "more"], "more: no weights of that name are known; did you mean moore"),
        (["pull", "puppet"], "puppet: is shipped and needs no download"),
        (["pull", "xyzzy"], "there are: puppet, puppet-environment, moore, novita, musepose, animatediff-v1"),
        (["convert", "moore", "-o", "out"], "moore: is not here whole; type: animate-anyone models pull moore"),
    ],
)
def test_mistakes(shell: Shell, arguments: list[str], message: str) -> None:
    assert message in shell.refused("models", *arguments)


def test_convert(shell: Shell) -> None:
    """From files in the published layout to a model that is shown and loads; options reach the converter."""
    published.write_moore(shell.folder / "weights")
    result = shell("models", "convert", "weights", "-o", "out", "--schedule", "scaled_linear", "--motion-heads", "4")
    assert (result.status, result.err) == (0, "")
    assert "Moore-AnimateAnyone: guider widths 4, 8, 12, 16; 24 positions" in result.out
    assert "betas scaled_linear" in result.out
    shown = shell("models", "show", "out")
    assert shown.status == 0
    assert "scaled_linear" in shown.out
    pipeline = load_pipeline(shell.folder / "out", "cpu")
    assert pipeline.denoising_unet.config["motion_num_attention_heads"] == 4
    assert "out: exists already; give a new folder" in shell.refused("models", "convert", "weights", "-o", "out")
    assert "dtype 'int8' is not known" in shell.refused("models", "convert", "weights", "-o", "two", "--dtype", "int8")
    (shell.folder / "weights" / "motion_module.pth").unlink()
    assert "motion_module.pth" in shell.refused("models", "convert", "weights", "-o", "two")
    assert not list(shell.folder.glob("two*"))


def test_convert_of_a_pulled_name(shell: Shell) -> None:
    """The name is looked up where pull puts things."""
    pulled(shell.folder / "home" / "moore")
    assert str(shell.folder / "home" / "moore") in shell.refused("models", "convert", "moore", "-o", "out")


def test_list_and_pull_need_no_torch(shell: Shell) -> None:
    """What a first-time user types answers at once: the heavy libraries are not imported."""
    import subprocess

    code = (
        "import sys; sys.argv = ['animate-anyone', 'models', *sys.argv[1:]]\n"
        "from animate_anyone.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [m for m in ('torch', 'diffusers', 'huggingface_hub') if m in sys.modules])"
    )
    for arguments in (["list"], ["pull", "puppet"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
        assert done.stdout.endswith("HEAVY []\n"), done
