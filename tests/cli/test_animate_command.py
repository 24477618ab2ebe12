"""``animate-anyone animate``: what it makes, and how it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import av
import numpy as np
import pytest
from command import Shell
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_forward_hook

import forked
from animate_anyone.media import VideoWriter, probe
from animate_anyone.models.denoising_unet import DenoisingUNet


@pytest.fixture
def shell(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside a character, a dance and their like."""
    for file in dancers.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def basic(tiny_model: Path) -> list[str]:
    """A good command; later options take the place of these."""
    options = ["--driving", "dance.npz", "--character-pose", "me.npz", "--model", str(tiny_model), "--steps", "2"]
    return ["animate", "me.png", *options, "--device", "cpu"]


def test_a_dance(shell: Shell, basic: list[str]) -> None:
    result = shell(*basic, "-o", "dancing.mp4")
    assert result.status == 0
    assert result.err == ""
    assert "dancing.mp4: 12 frames, 48x64, 12 frames per second" in result.out
    info = probe("dancing.mp4")
    assert (info.num_frames, info.fps, info.width, info.height) == (12, 12, 48, 64)
    with av.open("dancing.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")


def test_every_option(shell: Shell, basic: list[str]) -> None:
    options = "--size 72x80 --guidance 1.5 --seed 7 --frames 1:9 --fps 24 --window 6 --overlap 1 --window-batch 2"
    result = shell(*basic, *options.split(), "--no-align", "--dtype", "float32", "--keep", "kept", "-o", "out.mkv")
    assert result.status == 0, result.err
    info = probe("out.mkv")
    assert (info.width, info.height, info.num_frames, info.fps) == (72, 80, 16, 24)
    assert Path("kept/poses.npz").is_file()
    plain = shell(*basic, *options.split(), "-o", "aligned.mkv")
    assert plain.status == 0
    assert Path("aligned.mkv").read_bytes() != Path("out.mkv").read_bytes()


def test_sound_is_carried_over(shell: Shell, basic: list[str]) -> None:
    assert shell(*basic, "--driving", "skeleton.mp4", "-o", "out.mp4").status == 0
    assert probe("out.mp4").has_audio
    with av.open("out.mp4") as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert 0.8 < len(sound) / 44100 <= 1.1
    assert np.abs(sound[30000:40000]).mean() > 0.1


def test_placement(shell: Shell, basic: list[str]) -> None:
    """What this machine can do changes nothing in the result."""
    assert shell(*basic, "-o", "plain.mp4").status == 0
    result = shell(*basic, "--vae-tiling", "--attention", "native", "--offload", "none", "-o", "placed.mp4")
    assert result.status == 0, result.err
    assert Path("placed.mp4").read_bytes() == Path("plain.mp4").read_bytes()


def test_dry_run(shell: Shell, basic: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("animate_anyone.workflows.animate.load_pipeline", None)  # no weights
    before = shell.files()
    result = shell(*basic, "--dry-run", "--keep", "kept", "-o", "out.mp4")
    assert (result.status, result.err) == (0, "")
    assert shell.files() == before
    lines = result.out.splitlines()
    assert re.fullmatch(r"model: .*model, 3 MiB on disk", lines[0])
    assert lines[1] == "clip: 12 frames of 48x64; windows of 8: 2, 1 at once; 2 steps, with guidance"
    assert lines[2].startswith("weights, float32: image_encoder 0 MiB, ")
    assert re.search(r"^memory: .* at the peak", result.out, re.MULTILINE)
    options = "--size 128x96 --guidance 1 --frames 1:11 --window 4 --overlap 1 --window-batch 9 --dtype bfloat16"
    other = shell(*basic, "--dry-run", *options.split()).out
    assert "clip: 10 frames of 128x96; windows of 4: 3, 3 at once; 2 steps, without guidance" in other
    assert "weights, bfloat16" in other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--driving", "missing.mp4"], r"missing\.mp4: no such file"),
        (["--model", "no-such-model"], "no model of that name"),
        (["--window", "4", "--overlap", "4"], "window 4, overlap 4"),
        (["--attention", "_native_cudnn"], "does not work here"),
        (["--offload", "group"], "needs a GPU"),
        (["-o", "nowhere/out.mp4"], "there is no folder nowhere"),
    ],
)
def test_a_dry_run_finds_mistakes(careless: Shell, basic: list[str], options: list[str], message: str) -> None:
    assert re.search(message, careless.refused(*basic, "--dry-run", *options))


@pytest.fixture(scope="module")
def spoilt(dancers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files that are no good beside the good ones; no mistake may change anything in it."""
    folder = tmp_path_factory.mktemp("spoilt")
    for file in dancers.iterdir():
        shutil.copy(file, folder / file.name)
    (folder / "empty.png").touch()
    (folder / "empty.mp4").touch()
    (folder / "empty.npz").touch()
    (folder / "text.mp4").write_text("not a video\n" * 40)
    (folder / "text.png").write_text("not a picture\n" * 40)
    (folder / "text.npz").write_text("not poses\n" * 40)
    whole = (folder / "dance.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.new("1", (20000, 20000)).save(folder / "huge.png")
    (folder / "folder.mp4").mkdir()
    np.savez(folder / "other.npz", numbers=np.arange(3))
    with VideoWriter(folder / "nobody.mp4", (128, 96), 12) as video:
        for number in range(6):
            video.write(np.full((96, 128, 3), 90 + number, np.uint8))
    Image.new("RGB", (128, 128), (90, 120, 90)).save(folder / "meadow.png")
    return folder


@pytest.fixture
def careless(spoilt: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell in the folder with files that are no good."""
    return Shell(spoilt, monkeypatch, capfd)


MISTAKES = [
    (["missing.png"], [], r"missing\.png: no such file"),
    (["empty.png"], [], r"empty\.png: the file is empty"),
    (["text.png"], [], r"text\.png: not a picture"),
    (["one.png"], [], r"one\.png: 1×1 pixels; both sides must be at least 64"),
    (["huge.png"], [], r"huge\.png: .*(megapixels|20000)"),
    ([], ["--driving", "missing.mp4"], r"missing\.mp4: no such file"),
    ([], ["--driving", "empty.mp4"], r"empty\.mp4: the file is empty"),
    ([], ["--driving", "text.mp4"], r"text\.mp4: not a video"),
    ([], ["--driving", "cut.mp4"], r"cut\.mp4: the file is cut off"),
    ([], ["--driving", "folder.mp4"], r"folder\.mp4: "),
    ([], ["--driving", "me.png"], r"me\.png: is a picture, not a video"),
    ([], ["--driving", "empty.npz"], r"empty\.npz: not a pose file"),
    ([], ["--driving", "text.npz"], r"text\.npz: not a pose file"),
    ([], ["--driving", "other.npz"], r"other\.npz: not a pose file"),
    ([], ["--driving", "missing.npz"], r"missing\.npz: no such file"),
    ([], ["--character-pose", "missing.npz"], r"missing\.npz: no such file"),
    ([], ["--frames", "500:600"], r"--frames 500:600: dance\.npz has 12 frames"),
    ([], ["--driving", "dance.mp4", "--frames", "500:600"], r"--frames 500:600: dance\.mp4 has 12 frames"),
    ([], ["--frames", "six"], r"--frames six: give A:B"),
    ([], ["--model", "no-such-model"], r"no-such-model: no model of that name.*puppet"),
    ([], ["--model", "folder.mp4"], r"folder\.mp4: no model_index\.json there"),
    ([], ["-o", "nowhere/out.mp4"], r"nowhere/out\.mp4: there is no folder nowhere"),
    ([], ["-o", "."], r"\.: is a folder"),
    ([], ["-o", "folder.mp4"], r"folder\.mp4: is a folder"),
    ([], ["-o", "out.txt"], r"out\.txt: this kind of file cannot be written"),
    ([], ["-o", "/proc/out.mp4"], r"/proc/out\.mp4: cannot be written"),
    ([], ["--driving", "skeleton.mp4", "-o", "skeleton.mp4"], r"skeleton\.mp4: is what the work starts from"),
    ([], ["--size", "big"], r"--size big: not a size; give WIDTHxHEIGHT"),
    ([], ["--size", "60x64"], r"size 60x64: both must be multiples of 8"),
    ([], ["--size", "0x0"], r"size 0x0"),
    ([], ["--size", "80000x80000"], r"size 80000x80000"),
    ([], ["--fps", "fast"], r"--fps fast: not a number"),
    ([], ["--fps", "1/0"], r"--fps 1/0: not a number"),
    ([], ["--fps", "1e30000000"], r"--fps 1e30000000: not a number"),
    ([], ["--fps", "1e-30000000"], r"--fps 1e-30000000: not a number"),
    ([], ["--fps", "9" * 5000], r"--fps 9{40}\.\.\.: not a number"),
    ([], ["--size", "9" * 5000 + "x64"], r"--size 9{40}\.\.\.: not a size"),
    ([], ["--frames", "0:" + "9" * 5000], r"--frames 0:9{38}\.\.\.: give A:B"),
    ([], ["--fps", "-3"], r"fps -3: give a number above 0"),
    ([], ["--fps", "1000"], r"fps 1000: give a number above 0, at most 240"),
    ([], ["--pose-estimator", "eyes"], r"no pose estimator 'eyes'; there are: mediapipe, rtmlib"),
    ([], ["--seed", "-1"], r"seed -1"),
    ([], ["--seed", "9" * 30], r"seed 999"),
    ([], ["--steps", "5000"], r"5000 denoising steps: give 1 to 1000"),
    ([], ["--guidance", "nan"], r"guidance nan"),
    ([], ["--window", "4", "--overlap", "4"], r"window 4, overlap 4"),
    ([], ["--device", "cuda:77"], r"device 'cuda:77' is not there"),
    ([], ["--dtype", "int8"], r"dtype 'int8' is not known"),
    ([], ["--offload", "disk"], r"offload 'disk' is not known; give none, model, group"),
    ([], ["--offload", "model"], r"offload model needs a GPU, and the device is cpu"),
    ([], ["--attention", "eyes"], r"attention 'eyes' is not known; give auto, .*native"),
    ([], ["--attention", "_native_cudnn"], r"attention '_native_cudnn' does not work here"),
    ([], ["--quantize", "int2"], r"quantize 'int2' is not known; give none, bitsandbytes-8bit"),
    ([], ["--quantize", "bitsandbytes-4bit"], r"quantize bitsandbytes-4bit needs a CUDA GPU, and the device is cpu"),
    (
        [],
        ["--keep", "folder.mp4", "-o", "folder.mp4/skeletons.mp4"],
        r"--keep folder\.mp4: folder\.mp4/skeletons\.mp4 would be replaced by what is kept",
    ),
    ([], ["--keep", "me.png"], r"--keep me\.png: .*is no folder"),
]


@pytest.mark.parametrize(
    ("character", "options", "message"), MISTAKES, ids=[" ".join([*c, *o]) for c, o, _ in MISTAKES]
)
def test_mistakes(careless: Shell, basic: list[str], character: list[str], options: list[str], message: str) -> None:
    basic[1:2] = character or basic[1:2]
    assert re.search(message, careless.refused(*basic, *options))


def test_nobody_is_found(careless: Shell, basic: list[str]) -> None:
    """In the driving video, or in the character's picture; whatever MediaPipe would like to say besides."""
    pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
    assert "no person was found in any of the 6 frames" in careless.refused(*basic, "--driving", "nobody.mp4")
    options = [o for o in basic if o not in ("--character-pose", "me.npz")]
    options[1] = "meadow.png"
    assert "no person was found in the character picture" in careless.refused(*options)


def test_spoilt_models(shell: Shell, basic: list[str], tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "model")
    file = Path("model/vae/diffusion_pytorch_model.safetensors")
    tensors = load_file(file)
    name = "decoder.conv_in.weight"
    save_file({**tensors, name: tensors[name][:, :, 0].contiguous()}, file, {"format": "pt"})
    assert f"model/vae has another shape of {name}" in shell.refused(*basic, "--model", "model")
    save_file({n: t for n, t in tensors.items() if n != name}, file, {"format": "pt"})
    assert f"model/vae has no {name}" in shell.refused(*basic, "--model", "model")
    file.write_bytes(b"")
    assert f"{file}: damaged" in shell.refused(*basic, "--model", "model")
    file.unlink()
    assert "model/vae: no .safetensors file there" in shell.refused(*basic, "--model", "model")
    shutil.rmtree("model/vae")
    assert "its part vae/ is missing" in shell.refused(*basic, "--model", "model")


@pytest.mark.parametrize(
    "arguments",
    [
        ["animate", "me.png"],
        ["animate", "--driving", "dance.npz"],
        ["animate", "me.png", "--driving", "dance.npz", "--sise", "64x64"],
        ["animate", "me.png", "--driving", "dance.npz", "--steps", "0"],
        ["animate", "me.png", "--driving", "dance.npz", "--steps", "many"],
        ["animate", "me.png", "more.png", "--driving", "dance.npz"],
        ["animat"],
        ["--sise"],
    ],
)
def test_mistakes_of_usage(shell: Shell, arguments: list[str]) -> None:
    result = shell(*arguments)
    assert result.status == 2
    assert "Usage" in result.err
    assert "Traceback" not in result.err


def test_help(shell: Shell) -> None:
    everything = shell("--help")
    assert everything.status == 0
    for verb in ("animate", "pose", "synthesize", "prepare", "train", "evaluate", "demo"):
        assert verb in everything.out
        assert shell(verb, "--help").status == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as POSIX has them")
def test_interrupted(dancers: Path, tiny_model: Path, tmp_path: Path) -> None:
    """SIGINT, as Ctrl-C sends it, in the middle of denoising."""
    output = tmp_path / "out"
    output.mkdir()
    options = f"--character-pose {dancers}/me.npz --model {tiny_model} --steps 1000 --device cpu --keep {output}/kept"
    command = f"animate {dancers}/me.png --driving {dancers}/dance.npz -o {output}/out.mp4 {options}"

    def work() -> None:
        register_module_forward_hook(lambda m, *_: print("began", flush=True) if isinstance(m, DenoisingUNet) else None)
        forked.command_line(*command.split())()

    process = forked.Forked(work, tmp_path)
    assert process.stdout.readline() == "began\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    left = output / "out.mp4.unfinished"
    assert err == f"stopped; nothing half-written is left; the same command goes on from {left}\n"
    assert {f.name for f in output.iterdir()} == {"kept", left.name}  # what was whole before the interrupt


def test_our_own_mistakes_are_no_user_errors(shell: Shell, basic: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, and not status 2: nobody is told to mend what is ours."""

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("animate_anyone.workflows.animate.load_pipeline", broken)
    with pytest.raises(ZeroDivisionError):
        shell(*basic)


def test_settings_are_told_to_the_letter(shell: Shell, basic: list[str]) -> None:
    """The report that is kept holds what the terminal showed."""
    result = shell(*basic, "--keep", "kept", "-o", "out.mp4")
    kept = json.loads(Path("kept/report.json").read_text())
    assert result.out.splitlines()[:-1] == kept["lines"]
