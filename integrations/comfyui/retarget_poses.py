"""Retarget Poses: somebody's movement on the character's body (Animate Anyone, section 4.1)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from animate_anyone.conditions.hold import hold
from animate_anyone.conditions.retarget import compare_bodies, retarget
from animate_anyone.errors import InputError
from animate_anyone.interop.openpose_json import write_poses

from . import inputs
from .running import device_name, in_words_of_nodes, report_of
from .values import Poses, picture_of, poses_of


class RetargetPoses(io.ComfyNode):
    """What Animate does by itself with ``align`` on, to look at, change and hand on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneRetargetPoses",
            display_name="Retarget Poses (Animate Anyone)",
            category="Animate Anyone/poses",
            description="Puts a movement on the character's body: bones keep directions, lengths are the character's.",
            inputs=[
                inputs.pose_keypoints("The movement."),
                inputs.reference_image(),
                Poses.Input(
                    "reference_pose",
                    optional=True,
                    tooltip="The character's pose in pixels of reference_image, one frame; found where it is left out.",
                ),
                inputs.person(),
                inputs.pose_estimator(),
            ],
            outputs=[
                Poses.Output(display_name="pose_keypoints", tooltip="The movement in pixels of reference_image."),
                Poses.Output(display_name="reference_pose", tooltip="The character's own pose."),
                io.String.Output(display_name="report", tooltip="How the two bodies differ, in lines."),
            ],
        )

    @classmethod
    def execute(
        cls, pose_keypoints: Any, reference_image: Any, person: int, pose_estimator: str, reference_pose: Any = None
    ) -> io.NodeOutput:
        from animate_anyone.perception import load_estimator

        with in_words_of_nodes():
            driving = poses_of(pose_keypoints, person, 0, None, "pose_keypoints")
            picture = picture_of(reference_image)
            size = (picture.shape[1], picture.shape[0])
            if reference_pose is not None:
                reference = poses_of(reference_pose, 0, 0, None, "reference_pose").scaled_to(size)
            else:
                found = load_estimator(pose_estimator, device_name()).estimate_picture(picture)
                if found is None:
                    raise InputError("reference_image: no person was found in it; give one that shows the whole body")
                reference = found
            comparison = compare_bodies(driving, reference)
            poses, _ = hold(retarget(driving, reference, size, comparison=comparison))
            return io.NodeOutput(write_poses(poses), write_poses(reference), report_of(comparison.lines()))
