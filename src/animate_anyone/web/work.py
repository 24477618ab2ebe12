"""What a job does, in a process of its own: it calls a workflow, and says how far it is.

A job is a JSON object: ``kind``, ``verb``, ``folder`` (all its files are there, under names that the page chose),
``character``, ``video`` (names in that folder), ``settings`` and ``limits``. What comes out: ``lines`` for the user,
``files`` by what they are, and more by kind.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from animate_anyone.engines.job_process import Tell
from animate_anyone.errors import InputError, shortened
from animate_anyone.media import open_video, parse_range, probe, read_picture, write_picture
from animate_anyone.media.video_reading import frame_range
from animate_anyone.progress import Item, Progress
from animate_anyone.sampling.kept_model import KeptModel
from animate_anyone.sampling.quiet import quiet_model_libraries
from animate_anyone.system.silence import quiet_libraries
from animate_anyone.web.limits import Limits, check_archive
from animate_anyone.web.names import FRAME, FRAME_SIDE, MARKS, PREVIEW, PREVIEW_SIDE, RESULT, UNDERSTOOD
from animate_anyone.workflows.batch_jobs import WORKFLOWS
from animate_anyone.workflows.demo_inputs import write_demo_inputs
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.pose import estimate_file
from animate_anyone.workflows.setting_values import read_value
from animate_anyone.workflows.understanding import UNDERSTAND, show_frame

_EVERY = 0.5  # seconds between what is said of the progress
_PREVIEW_EVERY = 1.5
# They name places on the server's machine.
_NOT_HERE = ("keep", "sam2_weights", "object_weights", "depth", "rtmlib_detector", "rtmlib_pose", "device")
_model = KeptModel()  # of this process, from job to job


def do(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do a job. Raises :class:`InputError` for what is its inputs' fault."""
    quiet_libraries()
    quiet_model_libraries()
    folder = Path(job["folder"])
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.chdir(folder)  # names in errors and results have no folders
    tempfile.tempdir = str(temporary)
    began = time.perf_counter()
    if "marks" in job:
        Path(MARKS).write_text(job["marks"], encoding="utf-8")
    try:
        done = _KINDS[job["kind"]](job, Limits(**job["limits"]), Told(tell, folder))
        done["lines"] = [line.replace(f"{folder}{os.sep}", "") for line in done["lines"]]
        return {"files": {}, **done, "seconds": round(time.perf_counter() - began, 1)}
    except InputError as error:
        raise InputError(str(error).replace(f"{folder}{os.sep}", "")) from None
    except Exception:
        _model.drop()  # in which state it is, is not known
        raise
    finally:
        tempfile.tempdir = None
        os.chdir(folder.anchor)


class Told(Progress):
    """Says how far each stage is; the newest frame, foretold or made, is a small picture in the job's folder."""

    def __init__(self, tell: Tell, folder: Path) -> None:
        self._tell, self._preview, self._pictured = tell, folder / PREVIEW, 0.0

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        """As :meth:`Progress.track`."""
        count = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
        said = 0.0
        for number, item in enumerate(items):
            now = time.monotonic()
            if now - said > _EVERY:
                self._tell({"stage": description, "done": number, "total": count})
                said = now
            if description == "frames" and isinstance(item, np.ndarray):
                self.preview(lambda item=item: item)  # type: ignore[misc]
            yield item
        self._tell({"stage": description, "done": count, "total": count})

    def preview(self, make: Callable[[], NDArray[np.uint8]]) -> None:
        """As :meth:`Progress.preview`."""
        if time.monotonic() - self._pictured < _PREVIEW_EVERY:
            return
        frame = make()
        step = max(1, -(-max(frame.shape[:2]) // PREVIEW_SIDE))
        write_picture(self._preview, np.ascontiguousarray(frame[::step, ::step]))
        self._tell({"preview": True})
        self._pictured = time.monotonic()


def settings_of(verb: str, given: dict[str, Any]) -> Any:
    """A workflow's settings from JSON values.

    Raises:
        InputError: a setting is not known, not possible, or not for visitors.
    """
    kind = WORKFLOWS[verb].Settings
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name not in _NOT_HERE]
    for name in given:
        if name not in names:
            raise InputError(f"there is no setting {shortened(name)} here; there are: {', '.join(names)}")
    return kind(**{name: read_value(name, types[name], value) for name, value in given.items()})


def _checked(job: dict[str, Any], limits: Limits) -> Any:
    """The settings of a job whose files are within the limits."""
    settings = settings_of(job["verb"], job["settings"])
    video = Path(job["video"])
    if video.suffix == ".npz":
        check_archive(video, limits)
    else:
        _check_video(video, settings.frames, limits)
    if settings.size is not None and settings.size[0] * settings.size[1] > limits.pixels:
        raise InputError(f"size {settings.size[0]}x{settings.size[1]}: at most {limits.pixels} pixels")
    if settings.steps is not None and settings.steps > limits.steps:
        raise InputError(f"steps {settings.steps}: at most {limits.steps}")
    return settings


def _check_video(path: Path, frames: slice | None, limits: Limits) -> None:
    info = open_video(path).info
    if info.width * info.height > limits.pixels:
        raise InputError(f"{path}: {info.width}x{info.height}; at most {limits.pixels} pixels a frame: scale it down")
    count = len(frame_range(frames, info.num_frames, path))
    if count > limits.frames:
        raise InputError(f"{path}: {count} frames; at most {limits.frames}: choose some with A:B, such as 0:100")


def _make(job: dict[str, Any], limits: Limits, progress: Progress) -> dict[str, Any]:
    settings, verb = _checked(job, limits), job["verb"]
    make = getattr(WORKFLOWS[verb], verb)
    report = make(job["character"], job["video"], RESULT, settings, progress=progress, load=_model)
    files = {"video": RESULT, "settings": f"{RESULT}.json"}
    return {"lines": report.lines, "files": files, "frames": probe(RESULT).num_frames}


def _plan(job: dict[str, Any], limits: Limits, progress: Progress) -> dict[str, Any]:
    settings = _checked(job, limits)
    lines = WORKFLOWS[job["verb"]].dry_run(job["character"], job["video"], RESULT, settings)
    return {"lines": lines, "frames": len(open_driver(job["video"], settings.frames, settings.fps))}


def _understand(job: dict[str, Any], limits: Limits, progress: Progress) -> dict[str, Any]:
    plan, settings = _plan(job, limits, progress), settings_of(job["verb"], job["settings"])
    places = Path(job["character"]), Path(job["video"]), Path(UNDERSTOOD)
    report = UNDERSTAND[job["verb"]](*places, settings, progress=progress)
    return {**plan, "lines": [*report.lines, *plan["lines"]], "files": {"video": UNDERSTOOD}}


def _frame(job: dict[str, Any], limits: Limits, progress: Progress) -> dict[str, Any]:
    frames = job["settings"].get("frames")
    chosen = None if frames is None else parse_range(str(frames))
    _check_video(Path(job["video"]), chosen, limits)
    picture, people, first = show_frame(Path(job["video"]), int(job["frame"]), chosen)
    step = max(1, -(-max(picture.shape[:2]) // FRAME_SIDE))
    write_picture(FRAME, np.ascontiguousarray(picture[::step, ::step]))
    boxes = [[side / step for side in box] for box in people]
    lines = [f"people in frame {first}: {len(people)}"]
    return {"lines": lines, "files": {"frame": FRAME}, "people": boxes, "first": first}


def _examples(job: dict[str, Any], limits: Limits, progress: Progress) -> dict[str, Any]:
    return {"lines": [], "files": write_demo_inputs(Path(), job["verb"])}


def _poses(job: dict[str, Any], limits: Limits, progress: Progress) -> dict[str, Any]:
    source, frames = Path(job["video"]), job["settings"].get("frames")
    chosen = None if frames is None else parse_range(str(frames))
    if job.get("is_picture"):
        read_picture(source)
    else:
        _check_video(source, chosen, limits)
    poses, lines = estimate_file(source, chosen, preview=Path(RESULT), progress=progress)
    poses.save("poses.npz")
    return {"lines": lines, "files": {"video": RESULT, "poses": "poses.npz"}}


_KINDS: dict[str, Callable[[dict[str, Any], Limits, Told], dict[str, Any]]] = {
    "make": _make,
    "plan": _plan,
    "understand": _understand,
    "frame": _frame,
    "poses": _poses,
    "examples": _examples,
}
