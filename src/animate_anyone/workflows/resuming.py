"""A long video that was stopped goes on: what is finished of it is kept beside the result until that is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from animate_anyone.errors import InputError
from animate_anyone.models.folder import bytes_on_disk
from animate_anyone.sampling.denoising import State
from animate_anyone.structures import Picture, PoseSequence
from animate_anyone.system.whole_files import kept_for_later, whole_file
from animate_anyone.workflows.made_of import made_of
from animate_anyone.workflows.settings import WorkflowSettings

NAME = ".unfinished"
"""Behind the name of the result: the folder in which is kept what is finished."""

Found = TypeVar("Found")


class KeptWork:
    """What is finished of a video, in a folder beside it: poses, frames, and how far denoising is.

    A context manager: the folder goes when the block ends well, and stays when it does not. Only what it was begun for
    goes on with it: the same command, files, model and version. Where it cannot be written to, the work goes on
    without. The same video made by two processes at once is no harm: both write the same.

    Args:
        output: the video to write.
        job: what the frames depend on, JSON.
        worth_it: whether there is more than one window; else nothing is kept.

    Attributes:
        folder: where it is.
        num_frames: that were finished when this was opened.
        remark: a line for the user, empty where there was nothing.
    """

    def __init__(self, output: Path, job: Any, worth_it: bool = True) -> None:
        self.folder = output.with_name(output.name + NAME)
        self.num_frames, self.remark = 0, ""
        self._key = hashlib.sha256(json.dumps(job, sort_keys=True, default=str).encode()).hexdigest()
        self._on = worth_it
        self._state: State | None = None
        if not worth_it:
            return
        if self._is_ours():
            self._load()
        elif self.folder.is_dir() and (self.folder / "job.json").is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.remark = f"{self.folder}: was begun for another command or other files, and is begun anew"

    @classmethod
    def nothing(cls) -> KeptWork:
        """Of a video that no file is written of: nothing is kept."""
        return cls(Path("nothing"), None, worth_it=False)

    def _is_ours(self) -> bool:
        try:
            return bool(json.loads((self.folder / "job.json").read_text())["key"] == self._key)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _load(self) -> None:
        try:
            with safe_open(self.folder / "state.safetensors", "pt") as file:
                count = int(file.metadata()["frames"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return
        if all(map(self._is_whole, range(count))):
            self.num_frames, self._state = count, state
            self.remark = f"{self.folder}: {count} frames were finished, and are not made again"

    def _frame(self, number: int) -> Path:
        return self.folder / f"{number:08d}.png"

    def _is_whole(self, number: int) -> bool:
        try:
            with Image.open(self._frame(number)) as picture:
                picture.verify()  # by the file's own checksums
        except (OSError, ValueError, SyntaxError):  # what Pillow raises for damaged files
            return False
        return True

    def once(
        self, name: str, find: Callable[[], Found], save: Callable[[Found, Path], None], load: Callable[[Path], Found]
    ) -> Found:
        """What is found in the driver: looked for once, kept in a file of this ``name``."""
        file = self.folder / name
        if self._on and self._is_ours():
            try:
                return load(file)
            except (InputError, OSError, ValueError):  # not there, or damaged
                pass
        found = find()
        self._write(lambda: save(found, file))
        return found

    def poses(self, find: Callable[[], tuple[PoseSequence, list[str]]]) -> tuple[PoseSequence, list[str]]:
        """The driver's poses and remarks on them."""

        def save(found: tuple[PoseSequence, list[str]], file: Path) -> None:
            found[0].save(file)
            with whole_file(file.with_suffix(".json")) as part:
                part.write_text(json.dumps(found[1]))

        def load(file: Path) -> tuple[PoseSequence, list[str]]:
            return PoseSequence.load(file), [str(line) for line in json.loads(file.with_suffix(".json").read_text())]

        return self.once("poses.npz", find, save, load)

    def state(self) -> State | None:
        """See :class:`~animate_anyone.sampling.windowed.Kept`."""
        return self._state

    def save(self, num_frames: int, state: State) -> None:
        """See :class:`~animate_anyone.sampling.windowed.Kept`."""

        def write() -> None:
            with whole_file(self.folder / "state.safetensors") as part:
                save_file(state, part, {"frames": str(num_frames)})

        self._write(write)

    def through(self, frames: Iterator[Picture]) -> Iterator[Picture]:
        """The frames that are finished, then those that are made from there on, each kept before it is handed out."""
        for number in range(self.num_frames):
            with Image.open(self._frame(number)) as picture:
                yield np.asarray(picture.convert("RGB"))
        for number, frame in enumerate(frames, self.num_frames):
            self._write(lambda frame=frame, number=number: self._write_frame(frame, number))  # type: ignore[misc]
            yield frame

    def _write_frame(self, frame: Picture, number: int) -> None:
        part = self._frame(number).with_suffix(".part")
        Image.fromarray(frame).save(part, "PNG", compress_level=1)
        os.replace(part, self._frame(number))

    def _write(self, write: Callable[[], None]) -> None:
        """Write into the folder; where that fails once, it is not tried again."""
        if not self._on:
            return
        try:
            if not self._is_ours():
                self.folder.mkdir()  # somebody else's of this name is left alone
                with whole_file(self.folder / "job.json") as part:
                    part.write_text(json.dumps({"key": self._key}))
            kept_for_later.add(self.folder)
            write()
        except (OSError, InputError, SafetensorError):
            self._on = False
            kept_for_later.discard(self.folder)

    def __enter__(self) -> KeptWork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            kept_for_later.discard(self.folder)
            if self._is_ours():
                shutil.rmtree(self.folder, ignore_errors=True)


def describe_job(
    verb: str,
    character: str | Path,
    video: str | Path,
    settings: WorkflowSettings,
    pose: PoseSequence | None,
    num_processes: int = 1,
) -> dict[str, Any]:
    """All that the frames of a job, and how far they are, depend on; ``num_processes`` make them together."""
    objects = getattr(settings, "objects", None)
    depth = getattr(settings, "depth", None)
    files = [character, video, *([objects] if objects and Path(objects).exists() else []), *([depth] if depth else [])]
    job = made_of(verb, files, settings)
    job["settings"].pop("keep")
    device, dtype = settings.placement.resolve(bytes_on_disk(settings.model))
    return job | {
        "machine": [torch.__version__, str(device), str(dtype), torch.get_num_threads(), num_processes],
        "pose": None if pose is None else [pose.keypoints.tolist(), pose.scores.tolist()],
    }
