"""What a visitor can do, without the page that shows it: orders from a form, and jobs as they are told."""

from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from animate_anyone.errors import InputError, shortened
from animate_anyone.web.jobs import DONE, FAILED, RUNNING, WAITING, Job, JobQueue, Order
from animate_anyone.web.limits import PICTURES, POSES, VIDEO_KINDS, check_upload
from animate_anyone.web.marks import check_marks

VERBS = ("animate", "replace")
KINDS = ("make", "plan", "understand")
NAMES = {
    "make": "making the video",
    "plan": "foretelling",
    "understand": "looking first",
    "frame": "showing a frame",
    "poses": "finding poses",
    "examples": "drawing the examples",
}
"""Kind of a job -> what it does, for the visitor."""
_LONGEST_TEXT = 2000  # letters of a field
_NUMBERS = ("steps", "guidance")


class Actions:
    """Orders for a queue.

    Args:
        queue: that takes them.
        models: names and folders that visitors may choose from, by verb.
    """

    def __init__(self, queue: JobQueue, models: Mapping[str, Sequence[str]]) -> None:
        self.queue, self.models = queue, models

    def video(self, kind: str, verb: str, form: Mapping[str, Any]) -> str:
        """Order a video, or a look at what goes into one; returns the job's id.

        Args:
            kind: a name in :data:`KINDS`.
            form: uploads ``character``, ``video`` and ``poses``, paths or ``None``; ``marks``, text; ``more``, further
                settings as JSON; all else are settings, empty where the default is meant.

        Raises:
            InputError: something is missing or not allowed.
        """
        given = dict(form)
        uploads = {name: given.pop(name, None) for name in ("character", "video", "poses")}
        marks, more = given.pop("marks", None), given.pop("more", None)
        settings = filled(given) | _more(more, given)
        model = settings.get("model") or self.models[verb][0]
        if model not in self.models[verb]:
            raise InputError(
                f"there is no model {shortened(str(model))} here; there are: {', '.join(self.models[verb])}"
            )
        settings["model"] = model
        kinds: tuple[str, ...] = VIDEO_KINDS
        driver = uploads["video"]
        if verb == "animate" and uploads["poses"]:
            driver, kinds = uploads["poses"], (POSES,)
        for what, upload in (("a picture of the character", uploads["character"]), ("a video of somebody", driver)):
            if not upload:
                raise InputError(f"{what} is missing; upload one, or use the example")
        files = {
            "character": check_upload(uploads["character"], PICTURES, self.queue.limits),
            "video": check_upload(driver, kinds, self.queue.limits),
        }
        names = {what: path.name for what, path in files.items()}
        order = Order(kind, verb, settings, files, names)
        marked = None if marks is None else check_marks(marks)
        if marked is not None and verb == "replace":
            order = Order(kind, verb, settings | {"objects": "marks.json"}, files, names, {"marks": marked})
        return self.queue.submit(order)

    def frame(self, video: str | None, number: float | None, frames: str | None) -> str:
        """Order a frame of a video, to be clicked on; returns the job's id."""
        if not video:
            raise InputError("a video of somebody is missing; upload one, or use the example")
        path = check_upload(video, VIDEO_KINDS, self.queue.limits)
        more = {"frame": whole_number("frame", number or 0)}
        return self.queue.submit(Order("frame", "replace", filled({"frames": frames}), {"video": path}, more=more))

    def poses(self, source: str | None, frames: str | None) -> str:
        """Order the poses of a video or a picture; returns the job's id."""
        if not source:
            raise InputError("a video or a picture is missing; upload one")
        path = check_upload(source, (*VIDEO_KINDS, *PICTURES), self.queue.limits)
        more = {"is_picture": path.suffix.lower() in PICTURES and path.suffix.lower() != ".gif"}
        order = Order("poses", "animate", filled({"frames": frames}), {"video": path}, {"video": path.name}, more)
        return self.queue.submit(order)

    def told(self, name: str) -> dict[str, Any]:
        """A job as a program is told of it; JSON."""
        job = self.queue.job(name)
        return {
            "id": job.id,
            "kind": job.kind,
            "verb": job.verb,
            "status": job.status,
            "stage": job.stage,
            "done": job.done,
            "total": job.total,
            "ahead": self.queue.ahead(name),
            "lines": self.lines(job),
            "error": job.error,
            "seconds": job.seconds,
            "settings": job.settings,
        }

    def lines(self, job: Job) -> list[str]:
        """A job's lines for the visitor; of one that foretells, with the time that is to be expected."""
        lines = list(job.lines)
        count, model = job.found.get("frames"), job.settings.get("model")
        if job.kind in ("plan", "understand") and job.status == DONE and count:
            before = [one for one in self.queue.history() if one.settings.get("model") == model]
            before = [one for one in before if one.verb == job.verb and one.found.get("frames")]
            if before:
                each = before[0].seconds / before[0].found["frames"]
                lines.append(
                    f"time: about {each * count:.0f} s, if a frame takes as long as in the last video of this model "
                    f"here ({each:.2f} s)"
                )
        return lines

    def shown(self, name: str | None) -> str:
        """How a job and the queue are, as HTML; whatever comes from outside is escaped."""
        waiting = sum(job.status == WAITING for job in self.queue.jobs())
        rest = f"<p class='aa-queue'>waiting jobs: {waiting}</p>" if waiting else ""
        try:
            job = self.queue.job(name or "")
        except InputError:
            return f"<p class='aa-status'>no job yet</p>{rest}"
        what = NAMES.get(job.kind, job.kind)
        said = f"{what}: {job.status}"
        bar = ""
        if job.status == WAITING:
            said += f", {self.queue.ahead(job.id)} before it"
        elif job.status == RUNNING and job.stage:
            said += f", {job.stage} {job.done}" + (f" of {job.total}" if job.total else "")
            bar = f"<progress max='{job.total or 1}' value='{min(job.done, job.total or 1)}'></progress>"
        elif job.status == RUNNING:
            bar = "<progress></progress>"
        elif job.status == FAILED:
            said += f": {job.error}"
        elif job.status == DONE:
            said += f" in {job.seconds:.1f} s"
        kind = html.escape(job.status)
        return f"<p class='aa-status aa-{kind}' role='status'>{html.escape(said)}</p>{bar}{rest}"

    def history(self) -> list[tuple[str, str]]:
        """A line and the id of each video that was made, the newest first."""
        found = []
        for job in self.queue.history():
            when = time.strftime("%d.%m. %H:%M", time.localtime(job.created))
            names = " + ".join(shortened(job.names.get(what, "?")) for what in ("character", "video"))
            found.append((f"{when}  {job.verb}: {names}, seed {job.settings.get('seed', 0)}", job.id))
        return found


def filled(form: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form that are not empty; whole numbers as such.

    Raises:
        InputError: a text is too long.
    """
    given: dict[str, Any] = {}
    for name, value in form.items():
        if isinstance(value, str):
            value = value.strip()
            if len(value) > _LONGEST_TEXT:
                raise InputError(f"{name}: {len(value)} letters; at most {_LONGEST_TEXT}")
        if value is None or value == "":
            continue
        if isinstance(value, str) and name in _NUMBERS:
            value = number(name, value)
        given[name] = int(value) if isinstance(value, float) and value.is_integer() and name != "guidance" else value
    return given


def number(what: str, text: str) -> float:
    """A number that stands in a field of text, which may be left empty. Raises :class:`InputError`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{what} {shortened(text)}: give a number, or nothing for the model's own")
    return value


def whole_number(what: str, value: Any) -> int:
    """A whole number of at least 0. Raises :class:`InputError`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9 and value == int(value):
        return int(value)
    raise InputError(f"{what} {shortened(str(value))}: give a whole number from 0 on")


def _more(text: str | None, form: Mapping[str, Any]) -> dict[str, Any]:
    """Further settings; none that the form has."""
    if text is None or not text.strip():
        return {}
    if len(text) > _LONGEST_TEXT:
        raise InputError(f"further settings: {len(text)} letters; at most {_LONGEST_TEXT}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError('further settings are no JSON object; give such as {"window": 24}')
    for name in found:
        if name in form or name == "objects":
            raise InputError(f"further settings: {shortened(name)} has a field of its own")
    return found


def stored_form(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The fields ``names`` of a form from a job's settings, further ones in ``more``; objects are marked anew."""
    form = {name: settings.get(name) for name in names}
    others = {name: value for name, value in settings.items() if name not in (*names, "objects")}
    return {**form, "more": json.dumps(others) if others else ""}
