"""What several nodes are given: the inputs, described once, and the settings that are made of them."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from animate_anyone.errors import InputError
from animate_anyone.perception import ESTIMATORS
from animate_anyone.structures import Size

from .values import MOST, Poses

SEED_MOST = 2**63 - 1


def pose_keypoints(tooltip: str, optional: bool = False) -> Any:
    """POSE_KEYPOINT."""
    return Poses.Input("pose_keypoints", optional=optional, tooltip=tooltip)


def video(name: str, tooltip: str, optional: bool = False) -> Any:
    """A VIDEO, or frames as an IMAGE."""
    return io.MultiType.Input(name, [io.Video, io.Image], optional=optional, tooltip=tooltip)


def reference_image() -> Any:
    """The character's picture."""
    return io.Image.Input("reference_image", tooltip="One picture of the character, with the whole body in it.")


def person() -> Any:
    """Which of several people."""
    return io.Int.Input(
        "person", default=0, min=0, max=99, tooltip="Which of several people: 0 is the largest, 1 the next."
    )


def pose_estimator() -> Any:
    """Who finds poses."""
    return io.Combo.Input(
        "pose_estimator",
        options=list(ESTIMATORS),
        default=ESTIMATORS[0],
        tooltip="What finds poses: mediapipe has its networks with it; rtmlib is surer of hands and has no depth.",
    )


def frames() -> list[Any]:
    """Which frames of a video, at what rate."""
    return [
        io.Int.Input(
            "length", default=0, min=0, max=MOST, tooltip="At most so many frames are used; 0: all that there are."
        ),
        io.Int.Input(
            "video_frame_offset", default=0, min=0, max=MOST, tooltip="So many frames at the beginning are left out."
        ),
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=240.0,
            step=0.001,
            tooltip="Frames per second. 0: as the video or the poses say, 24 for frames that come as IMAGE.",
        ),
    ]


def sampling() -> list[Any]:
    """How the frames are made."""
    return [
        io.Int.Input(
            "width",
            default=0,
            min=0,
            max=4096,
            step=8,
            tooltip="Width of the result, a multiple of 8. 0 in width and height: the shape of the picture or video.",
        ),
        io.Int.Input("height", default=0, min=0, max=4096, step=8, tooltip="Height of the result; see width."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=SEED_MOST,
            control_after_generate=True,
            tooltip="Of the initial noise: the same seed gives the same frames.",
        ),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="Steps of denoising (DDIM). 0: the model's own."),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Weight of classifier-free guidance; 1 is none and takes half the time. 0: the model's own.",
        ),
        io.Int.Input(
            "context_length",
            default=0,
            min=0,
            max=10_000,
            tooltip="Frames that are denoised together; longer clips are made of such windows. 0: the model's own.",
        ),
        io.Int.Input(
            "context_overlap",
            default=-1,
            min=-1,
            max=10_000,
            tooltip="Frames that neighbouring windows share. -1: the model's own.",
        ),
        io.String.Input(
            "speed",
            default="exact",
            tooltip="Trade-offs, at which frames differ a little: exact is none; all, or some of "
            "guidance,solver,features,reference.",
        ),
    ]


def first_guess() -> io.Boolean.Input:
    """Whether the first guess is wanted as it is."""
    tooltip = "Of small models: what they begin with, without what their networks make of it."
    return io.Boolean.Input("first_guess", default=False, tooltip=tooltip)


def results(whose: str) -> list[Any]:
    """The outputs of a node that makes a video, with the rate and the sound of ``whose``."""
    return [
        io.Video.Output(display_name="video", tooltip=f"With the {whose}'s rate and sound."),
        io.Image.Output(display_name="images", tooltip="The frames of it."),
        io.String.Output(display_name="report", tooltip="What was understood and made, in lines."),
    ]


def size_of(width: int | None, height: int | None) -> Size | None:
    """The size that is asked for; ``None`` for none. Raises :class:`InputError` where one side alone is given."""
    if not width and not height:
        return None
    if not width or not height:
        raise InputError(f"width {width or 0}, height {height or 0}: give both, or 0 in both")
    return width, height


def settings_of(
    width: int, height: int, seed: int, steps: int, cfg: float, context_length: int, context_overlap: int, speed: str
) -> dict[str, Any]:
    """The settings of a workflow from what :func:`sampling` asks for."""
    return {
        "size": size_of(width, height),
        "seed": seed,
        "steps": steps or None,
        "guidance": cfg or None,
        "window": context_length or None,
        "overlap": None if context_overlap < 0 else context_overlap,
        "speed": speed,
    }
