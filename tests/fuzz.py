"""Damaged and odd files: each is used, or refused in one line; never a traceback, a crash, a hang or half a result.

    python tests/fuzz.py --inputs 2000 --seed 0

Good files (pictures, videos, poses, weights, recipes, marks of objects) are changed at random: bytes flipped, cut off,
filled with zeros, exchanged, repeated, numbers in them made huge; and, where a file has a structure, values of it
replaced by others of the wrong kind. Each is then used as the command line would use it, in a child process of limited
memory. A child that dies or answers nothing for a while is found out, and the next goes on after that file.

Input K of seed S is always the same file: ``python tests/fuzz.py --seed S --only K --keep FOLDER`` writes it and tells
what comes of it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [path for path in (str(HERE), str(HERE / "media")) if path not in sys.path]
KINDS = ("picture", "video", "poses", "weights", "recipe", "marks")
PATIENCE = 300  # seconds for one file, on a slow machine
MEMORY = 12 * 2**30  # bytes of address space for a child
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 10**30, 10**400, -(10**30)),
    *(0.5, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *("", "text", "a\nb", "\x1b[2J", "\ud800", "x" * 10_000, "1", "nan", "../..", "/dev/null"),
    *([], {}, [[]], [None], [0, 0], [0, 0, 0, 0], [1e308, 1e308], {"": 0}, {"a": {"b": {}}}, [[[[[[]]]]]]),
)


@dataclass(frozen=True)
class Answer:
    """What came of one file: ``used``, ``refused``, ``failed``, ``crashed`` or ``hung``."""

    number: int
    kind: str
    result: str
    text: str = ""
    seconds: float = 0.0


# Good files.


def make_ground(folder: Path) -> None:
    """Write good files of each kind, and what is needed to use them."""
    import dancers
    import tiny

    dancers.make(folder)
    tiny.pipeline().save_pretrained(folder / "model")
    for kind in KINDS:
        (folder / kind).mkdir()
    _make_pictures(folder / "picture", folder / "me.png")
    _make_videos(folder / "video", folder)
    for name in ("me.npz", "dance.npz"):
        shutil.copy(folder / name, folder / "poses")
    for part in ("vae", "pose_guider", "denoising_unet", "image_encoder"):
        file = next((folder / "model" / part).glob("*.safetensors"))
        shutil.copy(file, folder / "weights" / f"{part}.safetensors")
    for name, content in _recipes(folder).items():
        (folder / "recipe" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (folder / "marks" / "marks.json").write_text(json.dumps(MARKS))


def _make_pictures(folder: Path, source: Path) -> None:
    from PIL import Image

    with Image.open(source) as opened:
        image = opened.convert("RGB").resize((96, 128))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    for name, picture, options in (
        ("plain.png", image, {}),
        ("alpha.png", image.convert("RGBA"), {}),
        ("palette.png", image.quantize(16), {"transparency": 3}),
        ("deep.png", deep, {}),
        ("plain.jpg", image, {"exif": exif}),
        ("progressive.jpg", image, {"progressive": True}),
        ("cmyk.jpg", image.convert("CMYK"), {}),
        ("plain.webp", image, {"exif": exif}),
        ("lossless.webp", image.convert("RGBA"), {"lossless": True}),
        ("plain.bmp", image, {}),
        ("plain.tif", image, {}),
        ("packed.tif", image, {"compression": "tiff_lzw"}),
        ("plain.gif", image.quantize(16), {}),
    ):
        picture.save(folder / name, **options)


def _make_videos(folder: Path, ground: Path) -> None:
    from small_clips import make_clip

    for name in ("dance.mp4", "skeleton.mp4"):
        shutil.copy(ground / name, folder)
    for name, codec, sound in (
        ("h264.mp4", "libx264", "aac"),
        ("turned.mov", "libx264", None),
        ("flac.mkv", "libx264", "flac"),
        ("vp9.webm", "libvpx-vp9", None),
        ("mpeg4.avi", "mpeg4", "libmp3lame"),
        ("h264.ts", "libx264", "aac"),
    ):
        make_clip(folder / name, 8, size=(64, 64), codec=codec, sound=sound, rotation=90 * name.startswith("turned"))


def _recipes(folder: Path) -> dict[str, dict[str, Any]]:
    import tiny

    data = {"size": 32, "clips": 2, "frames_per_clip": 2, "supersample": 1}
    common = {"output": "run", "steps": 1, "batch": 2, "precision": "float32", "data": data}
    vae, encoder = {"vae": tiny.VAE}, {"image_encoder": tiny.IMAGE_ENCODER}
    return {
        "autoencoder": {**common, "stage": "autoencoder", "objective": {"crop": 16}, "networks": vae},
        "image_encoder": {**common, "stage": "image_encoder", "networks": encoder},
        "image": {**common, "stage": "image", "init": str(folder / "model"), "optimizer": {"lr": 1e-4}},
    }


MARKS = {
    "size": [256, 256],
    "objects": [
        {"name": "ball", "frames": [0, 5], "marks": [{"frame": 0, "box": [10, 10, 60, 60], "outside": [[5, 5]]}]},
        {"name": "stick", "marks": [{"frame": 2, "points": [[100, 90.5], [110, 95]]}]},
    ],
}


# Changes.


def mutant(ground: Path, seed: int, number: int) -> tuple[str, str, bytes]:
    """Input ``number`` of a seed: its kind, a file name and its bytes."""
    rng = random.Random(f"{seed} {number}")
    kind = KINDS[number % len(KINDS)]
    source = rng.choice(sorted((ground / kind).iterdir()))
    data = source.read_bytes()
    if rng.random() < 0.03:  # another kind's bytes under this name
        data = rng.choice(sorted((ground / rng.choice(KINDS)).iterdir())).read_bytes()
    shaped = {"poses": _odd_poses, "weights": _odd_weights, "recipe": _odd_recipe, "marks": _odd_marks}.get(kind)
    if shaped is not None and rng.random() < 0.6:
        data = shaped(rng, source.read_bytes())
        if rng.random() < 0.8:
            return kind, source.name, data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(BYTES)(rng, data)
    return kind, source.name, data


def _place(rng: random.Random, data: bytes) -> int:
    """Somewhere in the data; one time in three in its beginning, where headers are."""
    return rng.randrange(max(1, min(len(data), 256) if rng.random() < 0.33 else len(data)))


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _write(rng: random.Random, data: bytes) -> bytes:
    """Some bytes replaced, by zeros, ones, the largest numbers, or anything."""
    at, length = _place(rng, data), rng.choice((1, 2, 4, 8, 64, 1024))
    pattern = rng.choice((b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80", rng.randbytes(length)))
    filled = (pattern * length)[: min(length, len(data) - at)]
    return data[:at] + filled + data[at + len(filled) :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice((0, 1, 7, _place(rng, data), rng.randrange(len(data) + 1)))]


def _remove(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 16, 512)) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 16, 512))) + data[at:]


def _exchange(rng: random.Random, data: bytes) -> bytes:
    length = rng.choice((4, 64, 1024))
    first, second = sorted((_place(rng, data), _place(rng, data)))
    if first + length > second or second + length > len(data):
        return data[::-1] if rng.random() < 0.1 else data + data[:length]
    one, two = data[first : first + length], data[second : second + length]
    return data[:first] + two + data[first + length : second] + one + data[second + length :]


BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (_flip, _write, _cut, _remove, _insert, _exchange)


def _odd_tree(rng: random.Random, tree: Any) -> Any:
    """A tree of mappings and lists with one of its values, keys or entries changed."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            collect(node[key])

    collect(tree)
    node, key = rng.choice(places)
    what = rng.random()
    if what < 0.75:
        node[key] = deepcopy(rng.choice(ODD))
    elif what < 0.85:
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(("", "size", "objects", "unknown", 3, "a\nb", f"{key}s"))] = deepcopy(node[key])
    else:
        node.append(deepcopy(node[key]))
    return tree


def _odd_recipe(rng: random.Random, data: bytes) -> bytes:
    tree = yaml.safe_load(data)
    if rng.random() < 0.1:
        bomb = "a: &a [x, x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
        )
        odd = (
            "!!python/object/apply:os.getcwd []\n",
            "stage: [",
            "- 1\n",
            "? [a]\n: b\n",
            "[" * 5000,
            bomb,
            "&a [*a]\n",
        )
        return data + rng.choice(odd).encode()
    for _ in range(rng.choice((1, 1, 2))):
        tree = _odd_tree(rng, tree)
    return yaml.dump(tree, Dumper=yaml.SafeDumper).encode("utf-8", "surrogatepass")


def _odd_marks(rng: random.Random, data: bytes) -> bytes:
    tree = json.loads(data)
    if rng.random() < 0.05:
        return rng.choice(
            (b"[" * 100_000, b"1e999", b'{"objects": 1' + b"0" * 5000 + b"}", b"null", b"\xff\xfe{\x00}\x00")
        )
    for _ in range(rng.choice((1, 1, 2))):
        tree = _odd_tree(rng, tree)
    return json.dumps(tree).encode()


def _odd_poses(rng: random.Random, data: bytes) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    change = rng.randrange(6)
    if change == 0:
        del arrays[name]
    elif change == 1:
        kind = rng.choice(("int8", "uint64", "float16", "complex64", "bool", "U3", "S5", "O", "M8[s]", "float128"))
        try:
            arrays[name] = array.astype(kind)
        except (TypeError, ValueError):
            arrays[name] = np.zeros(array.shape, kind)
    elif change == 2:
        shapes = (
            array[:0],
            array[:1],
            array[None],
            array.T,
            array.ravel(),
            array[..., :1],
            np.array(0),
            array.repeat(2, 0),
        )
        arrays[name] = rng.choice(shapes)
    elif change == 3:
        arrays["more"] = array
    else:
        value = rng.choice((math.nan, math.inf, -math.inf, 1e30, -1e30, 1e9, 2**62, -(2**62), 0, -1, 1e-30))
        changed = np.array(array, np.float64 if array.dtype.kind == "f" else array.dtype)
        with np.errstate(all="ignore"):
            flat = changed.reshape(-1)
            for _ in range(rng.choice((1, 1, 5, flat.size))):
                try:
                    flat[rng.randrange(flat.size)] = value
                except (ValueError, OverflowError):
                    flat[rng.randrange(flat.size)] = 0
        arrays[name] = changed
    out = io.BytesIO()
    np.savez(out, **arrays)
    if rng.random() < 0.05:  # a header that promises more than a machine holds
        return out.getvalue().replace(b"'shape': (", b"'shape': (9999999999999, ", 1)
    return out.getvalue()


def _odd_weights(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    change = rng.randrange(7)
    if change == 0:
        header[name] = deepcopy(rng.choice(ODD))
    elif change == 1:
        header[name]["dtype"] = rng.choice(("F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "NONE", 3))
    elif change == 2:
        header[name]["shape"] = rng.choice(([], [0], [-1], [2**62, 2**62], [1.5], "shape", header[name]["shape"][::-1]))
    elif change == 3:
        header[name]["data_offsets"] = rng.choice(
            ([0, 0], [4, 0], [0, 2**63], [-4, 4], [0], None, [len(rest), len(rest) + 4])
        )
    elif change == 4:
        header[rng.choice(("", "more", "a\nb", "x" * 1000))] = header.pop(name) if rng.random() < 0.5 else header[name]
    elif change == 5:
        first, last = header[name]["data_offsets"]
        value = np.array(rng.choice((math.nan, math.inf, -math.inf, 3e38)), "<f4").tobytes()
        rest = rest[:first] + value * ((last - first) // 4) + rest[last:]
    else:
        header["__metadata__"] = deepcopy(rng.choice(ODD))
    text = json.dumps(header).encode()
    size = rng.choice((0, 2**63, len(text) + 1, 10**9)) if rng.random() < 0.1 else len(text)
    return size.to_bytes(8, "little") + text + rest


# Use.


def use(kind: str, path: Path, ground: Path, out: Path) -> None:
    """Use a file as the command line does. Raises what it raises."""
    return {
        "picture": _use_picture,
        "video": _use_video,
        "poses": _use_poses,
        "weights": _use_weights,
        "recipe": _use_recipe,
        "marks": _use_marks,
    }[kind](path, ground, out)


def _animate(
    ground: Path, out: Path, *, character: Path, driving: Path, pose: Any = None, model: Path | None = None
) -> None:
    from animate_anyone.structures import PoseSequence
    from animate_anyone.workflows.animate import Settings, animate

    known = PoseSequence.load(ground / "me.npz") if pose is None else pose
    settings = Settings(
        model=str(model or ground / "model"), steps=1, frames=slice(0, 1), device="cpu", dtype="float32"
    )
    animate(character, driving, out / "out.mp4", settings, character_pose=known)


def _use_picture(path: Path, ground: Path, out: Path) -> None:
    _animate(ground, out, character=path, driving=ground / "dance.npz")


def _use_video(path: Path, ground: Path, out: Path) -> None:
    """All but the networks: how it drives, its frames, its sound."""
    from animate_anyone.media import VideoWriter
    from animate_anyone.workflows.driving import open_driver

    driver = open_driver(path)
    with VideoWriter(
        out / "out.mp4",
        driver.size,
        driver.fps,
        audio_from=driver.sound,
        audio_start=driver.start,
        audio_end=driver.stop,
    ) as video:
        for number, picture in enumerate(driver.pictures()):
            video.write(picture, None if driver.times is None else float(driver.times[number]))


def _use_poses(path: Path, ground: Path, out: Path) -> None:
    from animate_anyone.structures import PoseSequence

    if path.stat().st_size % 2:
        _animate(ground, out, character=ground / "me.png", driving=path)
    else:
        _animate(
            ground, out, character=ground / "me.png", driving=ground / "dance.npz", pose=PoseSequence.load(path)[:1]
        )


def _use_weights(path: Path, ground: Path, out: Path) -> None:
    model = out.with_name("model")
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(ground / "model", model)
    shutil.copy(path, next((model / path.stem).glob("*.safetensors")))
    _animate(ground, out, character=ground / "me.png", driving=ground / "dance.npz", model=model)


def _use_recipe(path: Path, ground: Path, out: Path) -> None:
    from animate_anyone.training.recipe_file import load_recipe
    from animate_anyone.training.stages import run

    recipe = load_recipe(path)
    if recipe.stage not in ("autoencoder", "image_encoder"):
        return
    data = replace(recipe.data, size=min(recipe.data.size, 64), clips=min(recipe.data.clips, 8), cache=None)
    data = replace(data, frames_per_clip=min(data.frames_per_clip, 4), supersample=1, pose_scale=1)
    bounded = {"steps": 1, "batch": min(recipe.batch, 4), "accumulate": 1, "output": str(out / "run"), "data": data}
    run(replace(recipe, **bounded))


def _use_marks(path: Path, ground: Path, out: Path) -> None:
    from animate_anyone.perception.objects.marks_file import read_object_file

    read_object_file(path, (128, 96), 12)


def children(ground: Path, scratch: Path, seed: int, numbers: range) -> None:
    """Use these inputs one after another, with a line of JSON for each on standard output: begun, and answered."""
    import torch

    from animate_anyone.errors import InputError

    torch.set_num_threads(1)
    _limit_memory()
    answers, sys.stdout = sys.stdout, sys.stderr
    for number in numbers:
        kind, name, data = mutant(ground, seed, number)
        path, out = scratch / name, scratch / "out"
        path.write_bytes(data)
        out.mkdir()
        print(json.dumps({"begun": number}), file=answers, flush=True)
        since = time.monotonic()
        result, text = "used", ""
        try:
            use(kind, path, ground, out)
        except InputError as error:
            result, text = "refused", str(error)
            if "\n" in text or not text.strip():
                result, text = "failed", f"not one line: {text!r}"
        except Exception:
            result, text = "failed", traceback.format_exc()
        left = sorted(str(f.relative_to(out)) for f in out.rglob("*") if not f.is_dir())
        if result == "refused" and left:
            result, text = "failed", f"refused ({text}), and left {left}"
        path.unlink()
        shutil.rmtree(out)
        seconds = round(time.monotonic() - since, 3)
        print(
            json.dumps({"number": number, "kind": kind, "result": result, "text": text, "seconds": seconds}),
            file=answers,
        )
        answers.flush()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def start(ground: Path, scratch: Path, seed: int, numbers: range, complaints: IO[bytes]) -> subprocess.Popen[str]:
    """A child process, see :func:`children`."""
    which = map(str, (numbers.start, numbers.stop, numbers.step))
    options = ["--seed", str(seed), "--child", str(ground), str(scratch), *which]
    command = [sys.executable, str(Path(__file__).resolve()), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)


def answers(
    ground: Path, seed: int, numbers: range, patience: float = PATIENCE, start: Callable[..., Any] = start
) -> Iterator[Answer]:
    """Use inputs in child processes, one after another; ``start`` as :func:`start` makes one."""
    following = numbers.start
    while following < numbers.stop:
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as complaints:
            left = range(following, numbers.stop, numbers.step)
            child = start(ground, Path(scratch), seed, left, complaints)
            assert child.stdout is not None
            begun, hung = None, threading.Event()

            def give_up(child: Any = child, hung: threading.Event = hung) -> None:
                hung.set()
                child.kill()

            timer = threading.Timer(patience, give_up)
            timer.start()
            for line in child.stdout:
                timer.cancel()
                timer = threading.Timer(patience, give_up)
                timer.start()
                told = json.loads(line)
                begun = told.get("begun", begun)
                if "number" in told:
                    following = told["number"] + numbers.step
                    yield Answer(**told)
            timer.cancel()
            status = child.wait()
            if following >= numbers.stop:
                return
            complaints.seek(0)
            said = complaints.read().decode(errors="replace")[-2000:]
            if begun is None or begun < following:
                raise RuntimeError(f"the child ended with {status}: {said}")
            yield Answer(
                begun, KINDS[begun % len(KINDS)], "hung" if hung.is_set() else "crashed", f"status {status}: {said}"
            )
            following = begun + numbers.step


def table(all_answers: list[Answer]) -> str:
    """Answers by kind, as Markdown."""
    counts = Counter((answer.kind, answer.result) for answer in all_answers)
    results = ("used", "refused", "failed", "crashed", "hung")
    lines = [["", *results, "slowest"], ["---", *("---:" for _ in (*results, ""))]]
    for kind in KINDS:
        slowest = max((answer.seconds for answer in all_answers if answer.kind == kind), default=0)
        lines.append([kind, *(str(counts[kind, result]) for result in results), f"{slowest:.1f} s"])
    lines.append(["in all", *(str(sum(counts[k, r] for k in KINDS)) for r in results), ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="of this kind alone")
    parser.add_argument("--only", type=int, help="this one alone")
    parser.add_argument("--keep", type=Path, help="a folder for what fails")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        ground, scratch, *which = asked.child
        children(Path(ground), Path(scratch), asked.seed, range(*map(int, which)))
        return 0
    numbers = range(asked.first, asked.first + asked.inputs)
    if asked.kind is not None:
        step, place = len(KINDS), KINDS.index(asked.kind)
        numbers = range(asked.first * step + place, (asked.first + asked.inputs) * step, step)
    if asked.only is not None:
        numbers = range(asked.only, asked.only + 1)
    since, done = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        ground = Path(folder)
        make_ground(ground)
        for answer in answers(ground, asked.seed, numbers):
            done.append(answer)
            good = answer.result in ("used", "refused")
            if not good or asked.only is not None:
                print(f"input {answer.number}, {answer.kind}: {answer.result}\n{answer.text}", flush=True)
            if asked.keep is not None and (not good or asked.only is not None):
                asked.keep.mkdir(parents=True, exist_ok=True)
                _, name, data = mutant(ground, asked.seed, answer.number)
                (asked.keep / f"{answer.number}_{name}").write_bytes(data)
    bad = [answer for answer in done if answer.result not in ("used", "refused")]
    print(f"{len(done)} inputs, seed {asked.seed}, {time.monotonic() - since:.0f} s\n\n{table(done)}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
