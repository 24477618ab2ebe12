"""Commands killed at random moments: nothing half written, nothing lost, and training goes on to the same weights.

    python tests/kills.py --kills 100 --seed 0 --jobs 2

``animate``, ``replace``, ``pose`` and ``train`` run on small inputs that the studio makes, with the shipped models, and
are ended by SIGINT (the whole process group, as Ctrl-C does), SIGTERM or SIGKILL: at any moment of their run, or soon
after something half written appears beside the results. After each kill is checked:

- the exit status: 130, 143 or -9; that of an unbroken run where the command had ended before;
- what it said: one line, no traceback;
- each result is that of an unbroken run, byte for byte, or what was there before;
- what is kept (``--keep``) is all there or all as before;
- nothing hidden is left, except after SIGKILL, and then no longer than until the command runs again.

A training run is killed and resumed until it ends; its weights are then those of the unbroken run. POSIX only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
VERBS = ("animate", "replace", "pose", "train")
BEFORE = b"what was there before"
TRACKER = "multiprocessing/resource_tracker.py"  # a process of Python's own outlives SIGKILL, and says what it removes
STOPPED = "stopped; nothing half-written is left\n"
PATIENCE = 300  # seconds that a killed command may take to end, on a slow machine
SOON = 0.25  # seconds after something half written appeared, at most
RECIPE = """
stage: autoencoder
output: run
steps: 12
batch: 2
precision: float32
ema: 0.9
log_every: 1
checkpoint_every: 1
objective: {crop: null}
data: {size: 32, clips: 4, frames_per_clip: 1, supersample: 1}
networks:
  vae:
    block_out_channels: [8, 8]
    layers_per_block: 1
    latent_channels: 4
    norm_num_groups: 4
    sample_size: 32
    down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D]
    up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D]
"""


class FoundError(AssertionError):
    """A kill that was not taken as it should be."""


@dataclass(frozen=True)
class Command:
    """A command line and what it makes, in the folder where it runs.

    Attributes:
        verb: its verb.
        arguments: what follows the verb.
        results: names of the files that it writes.
        kept: names of the files that appear together.
    """

    verb: str
    arguments: tuple[str, ...]
    results: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def start(self, folder: Path) -> subprocess.Popen[str]:
        """The process, in a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "animate_anyone", self.verb, *self.arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def run(self, folder: Path) -> float:
        """Run it to its end; returns the seconds that it took."""
        since = time.monotonic()
        process = self.start(folder)
        _, said = process.communicate()
        if process.returncode != 0:
            raise FoundError(f"{self.verb} ended with {process.returncode}: {said}")
        return time.monotonic() - since


@dataclass
class Place:
    """A folder in which one command is killed again and again.

    Attributes:
        folder: holds the inputs, and the results.
        command: what is killed.
        truth: the bytes of each result of an unbroken run.
        seconds: what an unbroken run takes.
        rng: chooses moments.
    """

    folder: Path
    command: Command
    truth: dict[str, bytes]
    seconds: float
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    left: dict[str, int] = field(default_factory=dict)

    def kill(self, number: signal.Signals, soon: bool) -> None:
        """Start the command, end it by a signal, and look at what is left.

        Args:
            number: the signal.
            soon: wait for something half written first.

        Raises:
            FoundError: something is not as it should be.
        """
        if self.command.verb != "train":
            self.lay_out()
        before = {name: read(self.folder / name) for name in self.truth}
        self.left = half_written(self.folder)  # by SIGKILL, before
        moment = self.rng.uniform(0, SOON if soon else self.seconds)
        process = self.command.start(self.folder)
        if soon:
            while process.poll() is None and not self.newly_written():
                time.sleep(0.001)
        time.sleep(moment)
        if number == signal.SIGINT:
            _signal_group(process, number)
        else:
            process.send_signal(number)
        try:
            _, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.communicate()
            raise FoundError(f"{self.command.verb}, {number.name}, {moment:.3f} s: has not ended") from None
        where = f"{self.command.verb}, {number.name}{', while writing' if soon else ''}, {moment:.3f} s"
        try:
            self.check(process.returncode, said, number, before)
        except FoundError as error:
            raise FoundError(f"{where}: {error}") from None

    def newly_written(self) -> list[str]:
        """What is half written and was not before."""
        return [name for name, made in half_written(self.folder).items() if self.left.get(name) != made]

    def lay_out(self) -> None:
        """Put files under the names of the results, or nothing."""
        for names in (self.command.results, self.command.kept):
            there = self.rng.random() < 0.5
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
                if there:
                    (self.folder / name).parent.mkdir(exist_ok=True)
                    (self.folder / name).write_bytes(BEFORE)

    def check(self, status: int, said: str, number: signal.Signals, before: dict[str, bytes | None]) -> None:
        """See that status, words and files are as they should be."""
        early = status == -number and number != signal.SIGKILL  # before Python had read the first line of ours
        ended = status == 0
        wanted = -number if number == signal.SIGKILL else 128 + number
        if not ended and not early and status != wanted:
            raise FoundError(f"exit status {status} in place of {wanted}: {said}")
        silent = number == signal.SIGKILL and (not said or TRACKER in said)
        if not ended and not early and not silent and said != STOPPED:
            raise FoundError(f"said {said!r}")
        self.counts["before the first line" if early else "had ended" if ended else "stopped"] += 1
        left = self.newly_written()
        if left and number != signal.SIGKILL:
            raise FoundError(f"left {left}")
        self.counts["left until the next run"] += bool(left)
        if self.command.verb == "train":
            return
        state = {name: self.state(name, before[name]) for name in self.truth}
        if ended and set(state.values()) != {"new"}:
            raise FoundError(f"ended well, but {state}")
        if len({state[name] for name in self.command.kept if not name.endswith("report.json")}) > 1:
            raise FoundError(f"kept in part: {state}")
        self.counts["results new"] += sum(value == "new" for value in state.values())
        self.counts["results as before"] += sum(value == "before" for value in state.values())

    def state(self, name: str, before: bytes | None) -> str:
        """``new`` or ``before``."""
        now = read(self.folder / name)
        if now == before:
            return "before"
        if now is not None and name.endswith(".json"):  # holds seconds
            json.loads(now)
            return "new"
        if now != self.truth[name]:
            raise FoundError(f"{name}: neither what was there before nor what it should become")
        return "new"

    def finish(self) -> None:
        """Run the command to its end: the results are right, and what kills have left is gone."""
        self.command.run(self.folder)
        for name in self.truth:
            if not name.endswith(".json") and read(self.folder / name) != self.truth[name]:
                raise FoundError(f"{self.command.verb}: {name} is another after the kills")
        if left := half_written(self.folder):
            raise FoundError(f"{self.command.verb}: left {left}")
        self.counts["runs to the end, results equal"] += 1
        if self.command.verb == "train":
            shutil.rmtree(self.folder / "run")


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, number)


def read(file: Path) -> bytes | None:
    """What a file holds; ``None`` where there is none."""
    return file.read_bytes() if file.is_file() else None


def half_written(folder: Path) -> dict[str, int]:
    """What is hidden or said to be partial, in the folder and those below: names, and numbers that change."""
    found: dict[str, int] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name.startswith(".") or name.endswith((".part", ".partial", ".old")):
                with suppress(FileNotFoundError):
                    file = os.path.join(place, name)
                    found[os.path.relpath(file, folder)] = os.stat(file).st_ino
    return found


def make_inputs(folder: Path) -> None:
    """A character, a video of somebody and its poses, from the studio; and a recipe."""
    studio = Command("synthesize", ("-o", ".", "--clips", "1", "--frames", "4", "--size", "128x128", "--scenes"))
    studio.run(folder)
    (folder / "recipe.yaml").write_text(RECIPE)


def commands(model: Sequence[str] = ()) -> dict[str, Command]:
    """What is killed; ``model`` are options of ``animate`` and ``replace``."""
    clip, character = "train_000000", "train_000000_character"
    common = ("--character-pose", f"{character}.npz", "--steps", "2", "--size", "64x64", "--keep", "kept", *model)
    animated = ("skeletons.mp4", "character_pose.npz", "character_pose.png", "poses.npz", "overlay.mp4", "report.json")
    replaced = ("poses.npz", "character.png", "source.mp4", "masks.mp4", "environment.mp4", "skeletons.mp4")
    return {
        "animate": Command(
            "animate",
            (f"{character}.png", "--driving", f"{clip}.npz", *common, "-o", "out.mp4"),
            ("out.mp4",),
            tuple(f"kept/{name}" for name in animated),
        ),
        "replace": Command(
            "replace",
            (f"{character}.png", "--video", f"{clip}.mp4", *common, "-o", "out.mp4"),
            ("out.mp4",),
            tuple(f"kept/{name}" for name in (*replaced, "report.json")),
        ),
        "pose": Command("pose", (f"{clip}.mp4", "-o", "poses.npz", "--preview", "over.mp4"), ("poses.npz", "over.mp4")),
        "train": Command("train", ("recipe.yaml", "--resume"), ("run/model/vae/diffusion_pytorch_model.safetensors",)),
    }


def prepare(command: Command, inputs: Path, folder: Path, seed: int) -> Place:
    """A place of its own for a command: the inputs, and what an unbroken run makes of them."""
    shutil.copytree(inputs, folder)
    seconds = command.run(folder)
    truth = {name: (folder / name).read_bytes() for name in (*command.results, *command.kept)}
    if left := half_written(folder):
        raise FoundError(f"{command.verb}: left {left} without being killed")
    shutil.rmtree(folder / "run", ignore_errors=True)
    return Place(folder, command, truth, seconds, random.Random(f"{seed} {command.verb}"))


def kill_all(place: Place, kills: int) -> list[str]:
    """Kill a command so many times, all signals in turn; returns what was found."""
    found: list[str] = []
    for number in range(kills):
        try:
            place.kill(SIGNALS[number % len(SIGNALS)], soon=place.rng.random() < 0.5)
            if place.command.verb == "train" and place.rng.random() < 0.25:
                place.finish()
        except FoundError as error:
            found.append(str(error))
    try:
        place.finish()
    except FoundError as error:
        found.append(str(error))
    return found


def table(places: Iterable[Place]) -> str:
    """What came of the kills, as Markdown."""
    places = list(places)
    rows = sorted({name for place in places for name in place.counts})
    lines = [["", *(place.command.verb for place in places)]]
    lines.append(["---", *("---:" for _ in places)])
    lines += [[name, *(str(place.counts[name]) for place in places)] for name in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once")
    parser.add_argument("--verbs", default=",".join(VERBS), help="which commands")
    asked = parser.parse_args()
    verbs = asked.verbs.split(",")
    since = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(asked.jobs) as pool:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        made = commands()
        places = list(pool.map(lambda v: prepare(made[v], inputs, Path(scratch) / v, asked.seed), verbs))
        shares = [asked.kills // len(verbs) + (number < asked.kills % len(verbs)) for number in range(len(verbs))]
        found = [line for lines in pool.map(kill_all, places, shares) for line in lines]
    print(f"{asked.kills} kills, seed {asked.seed}, {time.monotonic() - since:.0f} s; an unbroken run takes", end=" ")
    print(", ".join(f"{place.command.verb} {place.seconds:.1f} s" for place in places), end="\n\n")
    print(table(places))
    print("\n" + ("\n".join(f"- {line}" for line in found) or "Nothing was found."))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
