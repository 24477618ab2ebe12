"""Draw Poses: skeletons as pictures, of everybody in the poses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from comfy_api.latest import io

from animate_anyone.conditions.draw import STYLES, draw_frames
from animate_anyone.errors import InputError
from animate_anyone.interop.openpose_json import read_poses
from animate_anyone.structures import Picture

from . import inputs
from .running import NodeProgress, in_words_of_nodes, valid
from .values import image_of, pictures_of


class DrawPoses(io.ComfyNode):
    """Drawings as the published models of pose guidance know them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneDrawPoses",
            display_name="Draw Poses (Animate Anyone)",
            category="Animate Anyone/poses",
            description="Draws poses the OpenPose way, on black or over pictures.",
            inputs=[
                inputs.pose_keypoints("What is drawn: everybody in it."),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default="dwpose",
                    tooltip="dwpose: strokes of the same pixels at any size, as published models saw them. scaled: "
                    "smooth strokes that grow with the picture.",
                ),
                io.Int.Input(
                    "width", default=0, min=0, max=8192, tooltip="Of the pictures. 0 in both: the size of the poses."
                ),
                io.Int.Input("height", default=0, min=0, max=8192, tooltip="Of the pictures; see width."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures to draw over, one a frame or one for all; they give the size.",
                ),
            ],
            outputs=[io.Image.Output(display_name="pose_video", tooltip="One picture a frame.")],
        )

    @classmethod
    def validate_inputs(cls, width: int | None = None, height: int | None = None) -> bool | str:
        return valid(lambda: inputs.size_of(width, height))

    @classmethod
    def execute(cls, pose_keypoints: Any, style: str, width: int, height: int, images: Any = None) -> io.NodeOutput:
        with in_words_of_nodes():
            people = everybody(pose_keypoints)
            count = len(people[0])
            under = None if images is None else pictures_of(images, "images")
            size = inputs.size_of(width, height) or people[0].size
            if under is not None:
                size = (under.shape[2], under.shape[1])
                if len(under) not in (1, count):
                    raise InputError(
                        f"images: {len(under)} pictures for {count} poses; give one a frame, or a single one"
                    )

            def drawn() -> Iterator[Picture]:
                each = [draw_frames(poses, size, style=style) for poses in people]
                for number, skeletons in enumerate(zip(*each, strict=True)):
                    picture = np.max(skeletons, axis=0)
                    if under is not None:
                        own = under[number if len(under) > 1 else 0]
                        picture = np.where(picture.any(-1, keepdims=True), picture, own)
                    yield picture

            return io.NodeOutput(image_of(NodeProgress().track(drawn(), count, "drawing"), count))


def everybody(keypoints: Any) -> list[Any]:
    """The poses of all the people of POSE_KEYPOINT: who is whom from frame to frame does not matter here."""
    first = read_poses(keypoints, name="pose_keypoints")  # it is of the form
    most = max(len(frame.get("people") or ()) for frame in keypoints)
    rows = [[{**frame, "people": (frame.get("people") or [])[k : k + 1]} for frame in keypoints] for k in range(most)]
    seen = [row for row in rows if any(frame["people"] for frame in row)]
    return [first] if most < 2 else [read_poses(row, name="pose_keypoints") for row in seen]
