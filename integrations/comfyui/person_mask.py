"""Person Mask: where a person is in each frame of a video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from animate_anyone.interop.openpose_json import write_poses
from animate_anyone.perception.person.masks import MASKERS

from . import inputs
from .running import NodeProgress, device_name, in_words_of_nodes, report_of
from .values import Poses, Source, chosen, mask_of, poses_of_video

BUNDLED = tuple(name for name in MASKERS if name != "sam2")
"""Those that need no weights. ComfyUI has nodes of its own for SAM2: their MASK goes into Replace as this one does."""


class PersonMask(io.ComfyNode):
    """``animate_anyone.workflows.source_video.decompose``, without objects."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyonePersonMask",
            display_name="Person Mask (Animate Anyone)",
            category="Animate Anyone/masks",
            description="Cuts one person out of a video, by their poses.",
            inputs=[
                inputs.video("background_video", "A video with somebody in it, or its frames."),
                inputs.pose_keypoints(
                    "The person's poses, of all frames or of those used; found where they are left out.",
                    optional=True,
                ),
                io.Combo.Input(
                    "masker",
                    options=list(BUNDLED),
                    default=BUNDLED[0],
                    tooltip="mediapipe: a network in its wheel; grabcut: colours and movement, no network.",
                ),
                inputs.pose_estimator(),
                inputs.person(),
                *inputs.frames(),
            ],
            outputs=[
                io.Mask.Output(display_name="character_mask", tooltip="One mask a frame, 1 on the person."),
                Poses.Output(display_name="pose_keypoints", tooltip="The person's poses."),
                io.String.Output(display_name="report", tooltip="Which masks are to be doubted, in lines."),
            ],
        )

    @classmethod
    def execute(
        cls,
        background_video: Any,
        masker: str,
        pose_estimator: str,
        person: int,
        length: int,
        video_frame_offset: int,
        fps: float,
        pose_keypoints: Any = None,
    ) -> io.NodeOutput:
        from animate_anyone.workflows.driving import hold_driver
        from animate_anyone.workflows.source_video import Known, Networks, SourceVideoSettings, decompose

        with in_words_of_nodes():
            source = Source.of(background_video, fps, "background_video")
            frames = chosen(source.video.info.num_frames, video_frame_offset, length, "background_video")
            driver = hold_driver(source.video, frames, kind="video")
            known = Known(poses_of_video(pose_keypoints, person, source, frames))
            settings = SourceVideoSettings(model="", masker=masker, pose_estimator=pose_estimator, device=device_name())
            networks = Networks.load(settings, None)
            scene, lines = decompose(driver, networks, person, NodeProgress(), known)
            return io.NodeOutput(mask_of(scene.person.masks), write_poses(scene.pose), report_of(lines))
