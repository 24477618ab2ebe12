"""The page: tabs Animate, Replace, Poses and Models over a panel that shows one job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.interop.model_facts import describe, listing
from animate_anyone.optional import require
from animate_anyone.web.actions import VERBS, Actions
from animate_anyone.web.clicking import Clicking
from animate_anyone.web.forms import Form, told_in_one_line, uploaded
from animate_anyone.web.jobs import DONE, Order
from animate_anyone.web.panel import Panel

gr = require("gradio", "web")

TITLE = "Animate Anyone"
CSS = """
.aa-status { margin: 8px 12px; overflow-wrap: anywhere; }
.aa-failed { color: #c0262d; } .dark .aa-failed { color: #ff8a8f; }
.aa-queue { margin: 4px 12px; opacity: .7; }
.aa-panel progress { width: calc(100% - 24px); margin: 0 12px 8px; }
.aa-panel { background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
@media (max-width: 640px) { .tab-container button { padding: 0 9px !important; } }
@media (max-width: 640px) {
  .aa-checks, .aa-checks .form { flex-wrap: wrap; } .aa-checks .form > * { flex: 1 1 100% !important; }
}
.aa-list textarea {
  font-family: ui-monospace, monospace; font-size: 12px; white-space: pre; overflow-x: auto !important;
}
"""
_SYSTEM_FONTS = ("system-ui", "sans-serif")
_FIXED_FONTS = ("ui-monospace", "monospace")
_EXAMPLE_SECONDS = 300.0
_BUTTONS = {"understand": "1. Look first", "plan": "Foretell time and memory", "make": "2. Make the video"}


def build(actions: Actions) -> Any:
    """The page, not yet served: ``gradio.Blocks``. Every action has a name for programs (docs/web.md)."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# {TITLE}\nA picture of a character and a video of somebody moving: a video of the character.")
        forms: dict[str, Form] = {}
        clickings: list[Clicking] = []
        orders: list[tuple[Any, Callable[..., Any], Any, str]] = []
        with gr.Tabs() as tabs:
            for verb in VERBS:
                with gr.Tab(verb.capitalize(), id=verb):
                    form = forms[verb] = Form(verb, actions)
                    if verb == "replace":
                        clickings.append(Clicking(form, actions))
                    with gr.Row():
                        example = gr.Button("Use the example", size="sm", elem_id=f"aa-example-{verb}")
                        buttons = {
                            kind: gr.Button(
                                label,
                                variant="primary" if kind == "make" else "secondary",
                                size="sm",
                                elem_id=f"aa-{kind}-{verb}",
                            )
                            for kind, label in _BUTTONS.items()
                        }
                    _connect_example(example, form, actions)
                    for kind, button in buttons.items():
                        name = verb if kind == "make" else f"{kind}_{verb}"
                        inputs = list(form.fields.values())
                        orders.append((button, form.taking(_ordering(actions, kind, verb)), inputs, name))
            with gr.Tab("Poses", id="poses"):
                source = uploaded(gr.File(label="A video or a picture of somebody", height=170))
                frames = gr.Textbox(label="Frames", placeholder="A:B, such as 0:48")
                find = gr.Button("Find the poses", variant="primary", size="sm", elem_id="aa-poses")
                orders.append((find, told_in_one_line(actions.poses), [source, frames], "poses"))
            with gr.Tab("Models", id="models"):
                _draw_models(actions)
        panel = Panel(actions)
        for button, ordered, inputs, name in orders:
            button.click(ordered, inputs, panel.job, api_name=name, concurrency_limit=None, show_progress="hidden")
        for clicking in clickings:
            clicking.connect()
        panel.connect(page, tabs, forms)
        _add_api(actions)
    return page


def look() -> dict[str, Any]:
    """What Gradio's ``launch`` is told of the page's look: fonts that are on the visitor's machine."""
    fonts = {"font": list(_SYSTEM_FONTS), "font_mono": list(_FIXED_FONTS)}
    return {"theme": gr.themes.Default(**fonts), "css": CSS, "footer_links": []}


def _ordering(actions: Actions, kind: str, verb: str) -> Callable[[dict[str, Any]], str]:
    return lambda form: actions.video(kind, verb, form)


def _connect_example(button: Any, form: Form, actions: Actions) -> None:
    names = [name for name in ("character", "video", "poses") if name in form.fields]

    def example() -> list[str | None]:
        found = examples(actions, form.verb)
        return [found.get(name) for name in names]

    button.click(
        told_in_one_line(example), None, [form.fields[name] for name in names], api_name=f"example_{form.verb}"
    )


def examples(actions: Actions, verb: str) -> dict[str, str]:
    """Files of the verb's example, by the fields that take them; drawn when they are asked for first.

    Raises:
        InputError: they cannot be drawn, or other jobs take too long.
    """
    queue = actions.queue
    place = queue.folder / "examples" / verb
    found = {path.stem: str(path) for path in place.glob("*")}
    if found:
        return found
    job = queue.wait(queue.submit(Order("examples", verb, {}, {})), _EXAMPLE_SECONDS)
    if job.status != DONE:
        queue.cancel(job.id)
        raise InputError(job.error or "the example waits for another job; try again when that is done")
    place.mkdir(parents=True, exist_ok=True)
    for what, path in job.files.items():
        shutil.copyfile(path, place / f"{what}{Path(path).suffix}")
    return {path.stem: str(path) for path in place.glob("*")}


def _draw_models(actions: Actions) -> None:
    known = sorted({model for models in actions.models.values() for model in models})
    chosen = gr.Dropdown(known, value=known[0], label="Model")
    show = gr.Button("What is in it", size="sm", elem_id="aa-describe")
    about = gr.Textbox("\n".join(listing()), label="Models", lines=16, max_lines=40, elem_classes="aa-list")

    def described(model: str) -> str:
        if model not in known:
            raise InputError(f"there is no such model here; there are: {', '.join(known)}")
        return "\n".join(describe(model, digest=False))

    show.click(told_in_one_line(described), chosen, about, api_name="model")


def _add_api(actions: Actions) -> None:
    """What programs need beside the buttons' actions."""

    def job(name: str) -> dict[str, Any]:
        """How a job is: status, stage, done, total, lines, error."""
        return told_in_one_line(actions.told)(name)

    def cancel(name: str) -> dict[str, Any]:
        """End a job; answers when its process is gone."""
        told_in_one_line(actions.queue.cancel)(name)
        return job(name)

    def jobs() -> list[dict[str, Any]]:
        """All jobs that are known, the newest first."""
        return [actions.told(one.id) for one in actions.queue.jobs()]

    def result(name: str) -> list[str]:
        found = told_in_one_line(actions.queue.job)(name)
        if not found.files:
            raise gr.Error("the job has no result yet, or none at all", print_exception=False)
        return list(found.files.values())

    for function in (job, cancel, jobs):
        gr.api(function, api_name=function.__name__, concurrency_limit=None)
    name, files = gr.Textbox(visible=False), gr.File(visible=False, file_count="multiple")
    name.change(result, name, files, api_name="result", concurrency_limit=None, show_progress="hidden")
