"""``prepare`` on real, synthesised and broken videos: by each engine, and killed at random moments: one manifest.

    python tests/prepare_kills.py --clips FOLDER --kills 10 --seed 0

The inputs are the videos of FOLDER, clips that the studio makes, and five broken files. They are prepared in one
process, by a local pool, and by a local Ray where it is installed; then with signals (SIGINT to the whole process
group, SIGTERM, SIGKILL in turn) at random moments and called again until all is done. Each manifest and each file must
be those of the first run. Printed: clips per second, and the pose estimator's share of the time. POSIX only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from animate_anyone.media import VideoWriter
from animate_anyone.preparation.prepare import MANIFEST, read_manifest
from dancers import make_sound
from kills import SIGNALS, half_written

ENGINES = {
    "in process": (),
    "2 processes": ("--workers", "2"),
    "local Ray": ("--ray", "local", "--workers", "2"),
}
PATIENCE = 300.0  # seconds that a killed command may take to end


def make_inputs(folder: Path, clips: Path | None, made: int) -> None:
    """Real videos, ``made`` of the studio's, and five broken files."""
    folder.mkdir()
    for file in sorted(clips.glob("*.mp4")) if clips else []:
        shutil.copyfile(file, folder / file.name)
    size = ("--frames", "60", "--size", "256x384")
    _command("synthesize", "-o", str(folder / "studio"), "--clips", str(made), *size).communicate()
    whole = next((folder / "studio").glob("*.mp4"))
    (folder / "z1_empty.mp4").touch()
    (folder / "z2_cut_off.mp4").write_bytes(whole.read_bytes()[:-400])
    (folder / "z3_text.mp4").write_text("no video")
    make_sound(folder / "sound.wav", 1.0).rename(folder / "z4_sound.mp4")
    with VideoWriter(folder / "z5_one.mp4", (64, 64), 12) as out:
        out.write(np.full((64, 64, 3), 90, np.uint8))


def _command(*arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "animate_anyone", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def run(inputs: Path, output: Path, engine: Sequence[str]) -> tuple[str, float]:
    """Prepare to the end; what was said, and the seconds that it took."""
    since = time.monotonic()
    process = _command("prepare", str(inputs), "-o", str(output), *engine)
    said, error = process.communicate()
    if process.returncode or error:
        raise SystemExit(f"{' '.join(engine)}: ended with {process.returncode}: {error}")
    return said, time.monotonic() - since


def kill(inputs: Path, output: Path, engine: Sequence[str], number: signal.Signals, moment: float) -> bool:
    """Prepare and send a signal after so many seconds; whether it had ended before."""
    process = _command("prepare", str(inputs), "-o", str(output), *engine)
    try:
        process.communicate(timeout=moment)
        return True
    except subprocess.TimeoutExpired:
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.communicate(timeout=PATIENCE)
    if number != signal.SIGKILL and (left := half_written(output)):
        print(f"- {number.name} after {moment:.1f} s left {left}")
    return False


def contents(folder: Path) -> dict[str, bytes]:
    """Files of the data set but for its records, which hold times."""
    files = (file for place in (MANIFEST, "clips", "thumbnails") for file in _files(folder / place))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]


def shares(said: str) -> dict[str, float]:
    """Each stage's share of the time."""
    seconds = {stage: float(time) for stage, time in re.findall(r"(\w+) (\d+\.\d) s(?:,|$)", said, re.MULTILINE)}
    total = sum(seconds.values())
    return {stage: time / total for stage, time in seconds.items()}


def kill_again_and_again(inputs: Path, output: Path, moments: Sequence[float], truth: dict[str, bytes]) -> int:
    """Kill at these moments; what ends before is looked at and begun anew. Returns how many data sets were wrong."""
    wrong, options = 0, ENGINES["2 processes"]
    for number, moment in enumerate(moments):
        name = SIGNALS[number % len(SIGNALS)]
        done = kill(inputs, output, options, name, moment)
        print(f"- {name.name} after {moment:.1f} s{': had ended' if done else ''}", flush=True)
        if done:
            wrong += contents(output) != truth
            shutil.rmtree(output)
    run(inputs, output, options)
    same, left = contents(output) == truth, half_written(output)
    print(f"{len(moments)} kills: {told(same)}; half written files left: {sorted(left) or 'none'}", flush=True)
    return wrong + (not same or bool(left))


def told(same: bool) -> str:
    return f"manifest and files {'equal' if same else 'DIFFER'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=Path, help="folder of real videos")
    parser.add_argument("--made", type=int, default=20, help="clips that the studio makes")
    parser.add_argument("--kills", type=int, default=10, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--inputs", type=Path, help="where the inputs are kept, to be used again")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        inputs = asked.inputs or Path(scratch) / "inputs"
        if not inputs.exists():
            make_inputs(inputs, asked.clips, asked.made)
        truth: dict[str, bytes] = {}
        for name, options in ENGINES.items():
            if name.endswith("Ray") and not importlib.util.find_spec("ray"):
                continue
            output = Path(scratch) / name.replace(" ", "_")
            said, seconds = run(inputs, output, options)
            kept = sum(entry["status"] == "kept" for entry in read_manifest(output))
            first, truth = not truth, truth or contents(output)
            same = contents(output) == truth
            wrong += not same
            figures = f"{kept} clips, {kept / seconds:.2f} clips/s, poses {shares(said)['poses']:.0%} of the time"
            print(f"{name}: {seconds:.0f} s, {figures}; {told(same)}", flush=True)
            if first:
                print(said, flush=True)
                rng = random.Random(asked.seed)
                moments = [rng.uniform(0, 2 * seconds / max(asked.kills, 1)) for _ in range(asked.kills)]
                wrong += kill_again_and_again(inputs, Path(scratch) / "killed", moments, truth)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
