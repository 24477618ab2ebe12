"""Choosing the person and the objects by clicks on a frame of the video."""

from __future__ import annotations

import json
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.web.actions import Actions, whole_number
from animate_anyone.web.forms import Form, told_in_one_line
from animate_anyone.web.jobs import DONE
from animate_anyone.web.marks import CLICKS, PERSON, clicked, drawn, person_at

gr = require("gradio", "web")

_LONGEST_WAIT = 600.0  # seconds for a frame


class Clicking:
    """A frame of the video to click on, in the form of ``replace``; objects go to its ``marks``."""

    def __init__(self, form: Form, actions: Actions) -> None:
        self._form, self._actions = form, actions
        with gr.Accordion("Choose the person and objects by clicking", open=False):
            with gr.Row():
                self._number = gr.Number(label="Frame", value=0, precision=0, minimum=0, min_width=100)
                self._kind = gr.Radio(list(CLICKS), value=PERSON, label="A click marks", min_width=200)
                self._name = gr.Textbox(label="Name of the object", value="object", max_length=60, min_width=120)
            self._look = gr.Button("Show the frame", size="sm")
            self._picture = gr.Image(
                label="Click here", interactive=False, visible=False, buttons=[], format="jpeg", elem_id="aa-frame"
            )
            self._found = gr.State({})
            form.fields["marks"] = gr.Textbox(label="Marks (JSON)", lines=2, max_lines=8)
            self._clear = gr.Button("Clear the marks", size="sm")

    def connect(self) -> None:
        """Make it live; inside the page's block."""
        fields, marks = self._form.fields, self._form.fields["marks"]
        looked: dict[str, Any] = {"concurrency_limit": 4}
        self._look.click(
            told_in_one_line(self._show),
            [fields["video"], self._number, fields["frames"], marks],
            [self._picture, self._found],
            api_visibility="private",
            **looked,
        )
        self._picture.select(
            self._select,
            [self._found, self._kind, self._name, marks],
            [self._picture, marks, fields["person"], self._found],
            api_visibility="private",
            **looked,
        )
        redraw = told_in_one_line(lambda found: (self._drawn(found, ""), ""))
        self._clear.click(redraw, self._found, [self._picture, marks], api_visibility="private", **looked)

    def _show(self, video: str | None, number: float | None, frames: str | None, marks: str) -> tuple[Any, Any]:
        queue = self._actions.queue
        job = queue.wait(self._actions.frame(video, number, frames), _LONGEST_WAIT)
        if job.status != DONE:
            queue.cancel(job.id)
            raise InputError(job.error or "the frame was not shown: another job takes too long")
        found = {
            "frame": job.files["frame"],
            "number": whole_number("frame", number or 0),
            "people": job.found["people"],
            "first": job.found["first"],
            "chosen": None,
        }
        return self._drawn(found, marks), found

    def _select(
        self,
        found: dict[str, Any],
        kind: str,
        name: str,
        marks: str,
        event: gr.SelectData,  # type: ignore[name-defined]
    ) -> tuple[Any, str, Any, dict[str, Any]]:
        def chosen() -> tuple[Any, str, Any, dict[str, Any]]:
            place = (int(event.index[0]), int(event.index[1]))
            if kind == PERSON:
                person = person_at(found["people"], place)
                if person is None:
                    raise InputError("nobody was found there; click inside one of the boxes")
                now = found | {"chosen": person}
                return self._drawn(now, marks), marks, person, now
            size = (int(self._size(found)[0]), int(self._size(found)[1]))
            made = clicked(marks, name, kind, place, found["number"], size)
            return self._drawn(found, made), made, gr.skip(), found

        return told_in_one_line(chosen)()

    def _size(self, found: dict[str, Any]) -> tuple[int, int]:
        from PIL import Image

        with Image.open(found["frame"]) as picture:
            return picture.size

    def _drawn(self, found: dict[str, Any], marks: str) -> Any:
        if not found:
            return gr.update(visible=False)
        try:
            picture = drawn(found["frame"], marks, found["number"], found["people"], found["chosen"])
        except (KeyError, TypeError, ValueError, AttributeError, json.JSONDecodeError):
            raise InputError("the marks cannot be drawn; clear them") from None
        return gr.update(visible=True, value=picture)
