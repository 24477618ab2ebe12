"""Animate: the character moves as somebody in a video does (Animate Anyone)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from animate_anyone.errors import InputError

from . import inputs
from .load_model import LoadedModel
from .running import NodeProgress, in_words_of_nodes, report_of, valid
from .values import Model, Poses, Source, chosen, image_of, part_of_sound, picture_of, poses_of, video_of

KINDS = ("auto", "video", "skeleton")


class Animate(io.ComfyNode):
    """``animate_anyone.workflows.animate`` on pictures in memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneAnimate",
            display_name="Animate (Animate Anyone)",
            category="Animate Anyone/videos",
            description="Makes a video of a character from one picture, moving as the driving video or the poses do.",
            inputs=[
                Model.Input("model", tooltip="A model of Animate Anyone, such as puppet."),
                inputs.reference_image(),
                inputs.video(
                    "pose_video",
                    "What drives: a video of somebody moving, or a finished skeleton video. Beside pose_keypoints it "
                    "gives its frame rate and its sound alone.",
                    optional=True,
                ),
                inputs.pose_keypoints("What drives, in place of pose_video.", optional=True),
                Poses.Input(
                    "reference_pose",
                    optional=True,
                    tooltip="The character's pose in pixels of reference_image, one frame; found where it is left out.",
                ),
                io.Audio.Input(
                    "audio", optional=True, tooltip="Sound from the video's first frame on, in place of its own."
                ),
                *inputs.sampling(),
                *inputs.frames(),
                io.Boolean.Input(
                    "align",
                    default=True,
                    tooltip="Put the movement on the character's body; off: the skeleton is used as it is.",
                ),
                io.Combo.Input(
                    "driving_kind",
                    options=list(KINDS),
                    default="auto",
                    tooltip="What pose_video shows: somebody (video) or finished skeletons; auto looks.",
                ),
                inputs.pose_estimator(),
                inputs.person(),
                inputs.first_guess(),
            ],
            outputs=inputs.results("driver"),
        )

    @classmethod
    def validate_inputs(
        cls, width: int | None = None, height: int | None = None, speed: str | None = None
    ) -> bool | str:
        from animate_anyone.workflows.animate import Settings

        return valid(lambda: Settings(size=inputs.size_of(width, height), speed=speed or "exact"))

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference_image: Any,
        width: int,
        height: int,
        seed: int,
        steps: int,
        cfg: float,
        context_length: int,
        context_overlap: int,
        speed: str,
        length: int,
        video_frame_offset: int,
        fps: float,
        align: bool,
        driving_kind: str,
        pose_estimator: str,
        person: int,
        first_guess: bool,
        pose_video: Any = None,
        pose_keypoints: Any = None,
        reference_pose: Any = None,
        audio: Any = None,
    ) -> io.NodeOutput:
        from animate_anyone.workflows.animate import Settings, animate_frames
        from animate_anyone.workflows.driving import hold_driver

        with in_words_of_nodes():
            picture = picture_of(reference_image)
            if pose_video is None and pose_keypoints is None:
                raise InputError("nothing drives the character; connect pose_video or pose_keypoints")
            source = None if pose_video is None else Source.of(pose_video, fps, "pose_video")
            if pose_keypoints is not None:
                poses = poses_of(pose_keypoints, person, fps, source, "pose_keypoints")
                frames = chosen(len(poses), video_frame_offset, length, "pose_keypoints")
                driver = hold_driver(poses, frames, name="pose_keypoints")
            else:
                assert source is not None
                frames = chosen(source.video.info.num_frames, video_frame_offset, length, "pose_video")
                driver = hold_driver(source.video, frames, kind=driving_kind)
            settings = Settings(
                **model.settings,
                **inputs.settings_of(width, height, seed, steps, cfg, context_length, context_overlap, speed),
                align=align,
                pose_estimator=pose_estimator,
                person=0 if pose_keypoints is not None else person,
                first_guess=first_guess,
            )
            known = None if reference_pose is None else poses_of(reference_pose, 0, 0, None, "reference_pose")
            made, _, report = animate_frames(
                picture, driver, settings, character_pose=known, progress=NodeProgress(), load=model.load
            )
            images = image_of(made, len(driver))
            sound = audio if audio is not None else source and source.audio
            heard = part_of_sound(sound, frames.start / float(driver.fps), len(driver) / float(driver.fps))
            return io.NodeOutput(video_of(images, driver.fps, heard), images, report_of(report.lines))
