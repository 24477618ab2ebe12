"""The lower part of the page: how a job is, what came of it, and the history."""

from __future__ import annotations

from typing import Any

from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.web.actions import Actions, stored_form
from animate_anyone.web.forms import Form, told_in_one_line
from animate_anyone.web.jobs import RUNNING
from animate_anyone.web.names import PREVIEW

gr = require("gradio", "web")

_EVERY = 1.0  # seconds


class Panel:
    """Shows one job, the one that was ordered last on this page; after a reload, the one that is running.

    Attributes:
        job: the component that holds the id of the job that is shown.
    """

    def __init__(self, actions: Actions) -> None:
        self._actions = actions
        self.job = gr.Textbox("", visible=False)  # not a state, which programs are not told
        self._shown = gr.State("")  # what the heavy components show
        with gr.Group(elem_classes="aa-panel"):
            self._status = gr.HTML(actions.shown(None), label="Status")
            self._cancel = gr.Button("Cancel", variant="stop", size="sm", elem_id="aa-cancel", visible=False)
        with gr.Row():
            self._preview = gr.Image(
                label="Newest frame", interactive=False, visible=False, height=260, buttons=[], format="jpeg"
            )
            self._video = gr.Video(
                label="Result", interactive=False, visible=False, autoplay=True, loop=True, height=420, buttons=[]
            )
        self._files = gr.File(label="Files", interactive=False, visible=False, file_count="multiple")
        self._lines = gr.Textbox(label="What was found and done", lines=4, max_lines=16, visible=False)
        with gr.Accordion("History", open=False):
            self._history = gr.Dropdown([], label="Videos that were made here", value=None)
            with gr.Row():
                self._show = gr.Button("Show it", size="sm")
                self._again = gr.Button("Use these settings again", size="sm")

    def connect(self, page: Any, tabs: Any, forms: dict[str, Form]) -> None:
        """Make it live; inside the page's block."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
        looks = [self._status, self._cancel, self._preview, self._video, self._files, self._lines, self._history]
        timer = gr.Timer(_EVERY)
        timer.tick(self._tick, [self.job, self._shown], [*looks, self._shown], **private)
        page.load(self._attach, None, [self.job, self._shown], **private)
        self._cancel.click(self._stop, self.job, None, **private)
        self._show.click(lambda name: (name or "", ""), self._history, [self.job, self._shown], **private)
        fields = [field for form in forms.values() for field in self._settable(form)]
        again = told_in_one_line(lambda name: self._use_again(name, forms))
        self._again.click(again, self._history, [tabs, *fields], **private)

    def _attach(self) -> tuple[str, str]:
        """The job that a page shows when it is loaded."""
        jobs = self._actions.queue.jobs()
        running = [job for job in jobs if job.status == RUNNING]
        return (running or jobs)[0].id if jobs else "", ""

    def _tick(self, name: str, shown: str) -> tuple[Any, ...]:
        actions = self._actions
        try:
            job = actions.queue.job(name)
        except InputError:
            job = None
        history = actions.history()
        state = "|".join([name, job.status, str(job.previews)] if job else ["", "", ""])
        state += f"|{len(history)}{history[0][1] if history else ''}"
        status = actions.shown(name)
        if state == shown:
            return (status, *[gr.skip()] * 6, shown)
        before = shown.split("|")
        choices = gr.skip() if before[-1] == state.split("|")[-1] else gr.update(choices=history)
        cancel = gr.update(visible=job is not None and not job.is_over)
        if job is not None and before[:2] == [name, job.status]:
            return (status, cancel, self._picture(name), *[gr.skip()] * 3, choices, state)
        if job is None or not job.is_over:
            hidden = [gr.update(visible=False, value=None)] * 3
            return (status, cancel, self._picture(name) if job else hidden[0], *hidden, choices, state)
        video = job.files.get("video")
        files = [path for what, path in job.files.items() if what in ("video", "settings", "poses")]
        lines = "\n".join(actions.lines(job))
        return (
            status,
            cancel,
            gr.update(visible=False, value=None),
            gr.update(visible=video is not None, value=video),
            gr.update(visible=bool(files) and job.kind in ("make", "poses"), value=files or None),
            gr.update(visible=bool(lines), value=lines),
            choices,
            state,
        )

    def _picture(self, name: str) -> Any:
        path = self._actions.queue.preview(name, PREVIEW)
        if path is None:
            return gr.update(visible=False, value=None)
        try:
            with Image.open(path) as picture:
                return gr.update(visible=True, value=picture.convert("RGB"))
        except OSError:  # it went meanwhile
            return gr.skip()

    def _stop(self, name: str) -> None:
        if name:
            self._actions.queue.cancel(name)

    def _settable(self, form: Form) -> list[Any]:
        return [form.fields[name] for name in (*form.settings, "more")]

    def _use_again(self, name: str | None, forms: dict[str, Form]) -> list[Any]:
        if not name:
            raise InputError("choose a video of the history first")
        job = self._actions.queue.job(name)
        updates: list[Any] = [gr.Tabs(selected=job.verb)]
        for verb, form in forms.items():
            names = (*form.settings, "more")
            stored = stored_form(job.settings, form.settings)
            known = {name: value for name, value in stored.items() if value is not None}
            blank = {name: form.fields[name].value for name in names}
            updates += [gr.update(value={**blank, **known}[name]) if verb == job.verb else gr.skip() for name in names]
        return updates
