"""The form of a verb: its uploads and settings as components of the page, and handlers that take them."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.web.actions import Actions

gr = require("gradio", "web")

UPLOADS = ("character", "video", "poses", "marks")
MORE = {
    "animate": "window, overlap, window_batch, dtype, offload, vae_tiling, attention, quantize, driving_kind",
    "replace": "window, overlap, window_batch, continuation, feather, masker, tracker, dtype, offload, vae_tiling",
}


class Form:
    """The fields of a verb.

    Attributes:
        verb: ``animate`` or ``replace``.
        fields: name -> component, in the order of the handlers' arguments.
    """

    def __init__(self, verb: str, actions: Actions) -> None:
        self.verb = verb
        self.fields: dict[str, Any] = {}
        self._draw(verb, actions)

    @property
    def settings(self) -> list[str]:
        """Names of the fields that are no uploads, but for further settings."""
        return [name for name in self.fields if name not in (*UPLOADS, "more")]

    def _draw(self, verb: str, actions: Actions) -> None:
        add = self.fields
        with gr.Row():
            add["character"] = uploaded(
                gr.Image(
                    label="Picture of the character", type="filepath", image_mode=None, sources=["upload"], height=260
                )
            )
            label = "Video of somebody moving" if verb == "animate" else "Video of the person to replace"
            add["video"] = uploaded(gr.Video(label=label, sources=["upload"], height=260, buttons=[]))
        if verb == "animate":
            with gr.Accordion("Poses in place of the video", open=False):
                add["poses"] = uploaded(gr.File(label="Poses (.npz)", file_types=[".npz"], height=150))
        models = list(actions.models[verb])
        with gr.Accordion("Settings", open=False):
            with gr.Row():
                add["model"] = gr.Dropdown(models, value=models[0], label="Model", min_width=200)
                add["size"] = gr.Textbox(label="Size", placeholder="such as 512x768", min_width=120)
                add["frames"] = gr.Textbox(label="Frames", placeholder="A:B, such as 0:48", min_width=120)
            with gr.Row():
                add["steps"] = gr.Textbox(label="Steps", placeholder="the model's", min_width=100)
                add["guidance"] = gr.Textbox(label="Guidance", placeholder="the model's", min_width=100)
                add["seed"] = gr.Number(label="Seed", value=0, precision=0, minimum=0, min_width=100)
                add["person"] = gr.Number(label="Person (0: the largest)", value=0, precision=0, min_width=100)
            with gr.Row(elem_classes="aa-checks"):
                if verb == "animate":
                    add["fps"] = gr.Textbox(label="Frame rate", placeholder="the video's", min_width=200)
                    add["align"] = gr.Checkbox(True, label="Fit to the character's body", min_width=240)
                else:
                    add["keep_background"] = gr.Checkbox(False, label="Keep the video's own pixels", min_width=240)
                    add["crop"] = gr.Checkbox(False, label="Work on the part around the person", min_width=240)
                add["first_guess"] = gr.Checkbox(False, label="First guess alone (fast)", min_width=120)
            add["more"] = gr.Textbox(
                label="Further settings, as JSON", info=MORE[verb], placeholder='{"window": 24}', max_lines=3
            )

    def values(self, given: Sequence[Any]) -> dict[str, Any]:
        """The form of handlers' arguments."""
        return dict(zip(self.fields, given, strict=True))

    def taking(self, function: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
        """A handler that takes the fields by name, so that programs can give them so."""

        def called(*given: Any) -> Any:
            with_lines = told_in_one_line(function)
            return with_lines(self.values(given))

        kind = Parameter.POSITIONAL_OR_KEYWORD
        called.__signature__ = Signature([Parameter(name, kind, default=None) for name in self.fields])  # type: ignore[attr-defined]
        return called


def uploaded(component: Any) -> Any:
    """A component whose uploads are handed on as files, unopened: that they are sound is seen in a job's process."""
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component


def told_in_one_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose :class:`InputError` is shown on the page, and told to programs."""

    @wraps(function)
    def called(*given: Any) -> Any:
        try:
            return function(*given)
        except InputError as error:
            raise gr.Error(html.escape(str(error), quote=False), duration=10, print_exception=False) from None

    return called
