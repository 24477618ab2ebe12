"""Find Poses: the poses of one person in a video, or in a picture."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from animate_anyone.errors import InputError
from animate_anyone.interop.openpose_json import write_poses

from . import inputs
from .running import NodeProgress, device_name, in_words_of_nodes, report_of
from .values import Poses, Source, chosen


class FindPoses(io.ComfyNode):
    """Gaps and jitter of a video's poses are mended, as ``animate-anyone pose`` does it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneFindPoses",
            display_name="Find Poses (Animate Anyone)",
            category="Animate Anyone/poses",
            description="Finds the poses of one person in a video, or in a single picture.",
            inputs=[
                inputs.video("pose_video", "A video of somebody moving, or its frames; a single picture is one frame."),
                inputs.pose_estimator(),
                inputs.person(),
                *inputs.frames(),
            ],
            outputs=[
                Poses.Output(display_name="pose_keypoints", tooltip="One OpenPose dictionary a frame."),
                io.String.Output(display_name="report", tooltip="How sure the poses are, in lines."),
            ],
        )

    @classmethod
    def execute(
        cls, pose_video: Any, pose_estimator: str, person: int, length: int, video_frame_offset: int, fps: float
    ) -> io.NodeOutput:
        from animate_anyone.perception import load_estimator
        from animate_anyone.workflows.driving import hold_driver

        with in_words_of_nodes():
            source = Source.of(pose_video, fps, "pose_video").video
            frames = chosen(source.info.num_frames, video_frame_offset, length, "pose_video")
            driver = hold_driver(source, frames, kind="video")
            estimator = load_estimator(pose_estimator, device_name())
            if len(driver) == 1 and person == 0:
                found = estimator.estimate_picture(next(driver.pictures()))
                if found is None:
                    raise InputError("pose_video: no person was found in the picture; give one in which the body shows")
                return io.NodeOutput(write_poses(found), "")
            poses, lines = driver.poses(lambda: estimator, NodeProgress(), person)
            return io.NodeOutput(write_poses(poses), report_of(lines))
