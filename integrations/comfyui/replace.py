"""Replace: the person in a video becomes the character, in the video's own environment (Animate Anyone 2)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import inputs
from .load_model import LoadedModel
from .person_mask import BUNDLED
from .running import NodeProgress, in_words_of_nodes, report_of, valid
from .values import Model, Source, chosen, image_of, part_of_sound, picture_of, poses_of_video, track_of, video_of


class Replace(io.ComfyNode):
    """``animate_anyone.workflows.replace`` on pictures in memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneReplace",
            display_name="Replace (Animate Anyone)",
            category="Animate Anyone/videos",
            description="Puts a character from one picture into a video, in the place of the person there.",
            inputs=[
                Model.Input("model", tooltip="A model of Animate Anyone 2, such as puppet-environment."),
                inputs.reference_image(),
                inputs.video("background_video", "A video of somebody, or its frames: who is replaced, and where."),
                io.Mask.Input(
                    "character_mask",
                    optional=True,
                    tooltip="Where the person is, one mask for each frame of background_video or for each of those "
                    "used; found where it is left out.",
                ),
                io.Mask.Input(
                    "object_mask",
                    optional=True,
                    tooltip="What the person holds and shall stay, masks as in character_mask.",
                ),
                inputs.pose_keypoints(
                    "The person's poses, as many as masks in character_mask; found where they are left out.",
                    optional=True,
                ),
                io.Audio.Input(
                    "audio", optional=True, tooltip="Sound from the video's first frame on, in place of its own."
                ),
                *inputs.sampling(),
                *inputs.frames(),
                io.Boolean.Input(
                    "keep_background",
                    default=False,
                    tooltip="Give the video's size and, outside the made region, its own pixels.",
                ),
                io.Boolean.Input(
                    "crop",
                    default=False,
                    tooltip="Show the model the part of the video around the person alone; gives the video's size.",
                ),
                io.Int.Input(
                    "feather",
                    default=4,
                    min=0,
                    max=256,
                    tooltip="Pixels over which the made region fades into the video, with either of the two.",
                ),
                io.Int.Input(
                    "continuation",
                    default=0,
                    min=0,
                    max=10_000,
                    tooltip="Frames that a segment of a long clip takes over from the one before; 0: windows.",
                ),
                io.Combo.Input(
                    "masker",
                    options=list(BUNDLED),
                    default=BUNDLED[0],
                    tooltip="What cuts people out, of the picture, and of the video where character_mask is left out.",
                ),
                inputs.pose_estimator(),
                inputs.person(),
                inputs.first_guess(),
            ],
            outputs=inputs.results("video"),
        )

    @classmethod
    def validate_inputs(
        cls, width: int | None = None, height: int | None = None, speed: str | None = None
    ) -> bool | str:
        from animate_anyone.workflows.replace import Settings

        return valid(lambda: Settings(size=inputs.size_of(width, height), speed=speed or "exact"))

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference_image: Any,
        background_video: Any,
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
        keep_background: bool,
        crop: bool,
        feather: int,
        continuation: int,
        masker: str,
        pose_estimator: str,
        person: int,
        first_guess: bool,
        character_mask: Any = None,
        object_mask: Any = None,
        pose_keypoints: Any = None,
        audio: Any = None,
    ) -> io.NodeOutput:
        from animate_anyone.workflows.driving import hold_driver
        from animate_anyone.workflows.replace import Settings, replace_frames
        from animate_anyone.workflows.source_video import Known

        with in_words_of_nodes():
            picture = picture_of(reference_image)
            source = Source.of(background_video, fps, "background_video")
            count = source.video.info.num_frames
            frames = chosen(count, video_frame_offset, length, "background_video")
            driver = hold_driver(source.video, frames, kind="video")
            held = track_of(object_mask, frames, count, "object_mask", "object")
            known = Known(
                poses_of_video(pose_keypoints, person, source, frames),
                track_of(character_mask, frames, count, "character_mask", "person"),
                () if held is None else (held,),
            )
            settings = Settings(
                **model.settings,
                **inputs.settings_of(width, height, seed, steps, cfg, context_length, context_overlap, speed),
                keep_background=keep_background,
                crop=crop,
                feather=feather,
                continuation=continuation,
                masker=masker,
                pose_estimator=pose_estimator,
                person=person,
                first_guess=first_guess,
            )
            made, report = replace_frames(
                picture, driver, settings, known=known, progress=NodeProgress(), load=model.load
            )
            images = image_of(made, len(driver))
            sound = audio if audio is not None else source.audio
            heard = part_of_sound(sound, frames.start / float(driver.fps), len(driver) / float(driver.fps))
            return io.NodeOutput(video_of(images, driver.fps, heard), images, report_of(report.lines))
