"""Save Poses: poses as a file, of this project's form or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from animate_anyone.media import whole_file

from . import inputs
from .running import check_listed, in_words_of_nodes, valid
from .values import poses_of

FORMATS = ("npz", "json")


class SavePoses(io.ComfyNode):
    """The file appears only when it is whole."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneSavePoses",
            display_name="Save Poses (Animate Anyone)",
            category="Animate Anyone/poses",
            description="Writes poses into ComfyUI's output folder.",
            inputs=[
                inputs.pose_keypoints("What is saved."),
                io.String.Input(
                    "filename_prefix",
                    default="poses/AnimateAnyone",
                    tooltip="How the file's name begins; a folder may stand before it.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="npz",
                    tooltip="npz: one person with depth and rate, which animate-anyone takes as driving video. "
                    "json: everybody, a list of OpenPose's dictionaries.",
                ),
                inputs.person(),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, format: str = FORMATS[0]) -> bool | str:
        return valid(lambda: check_listed("format", format, FORMATS))

    @classmethod
    def execute(cls, pose_keypoints: Any, filename_prefix: str, format: str, person: int) -> io.NodeOutput:
        with in_words_of_nodes():
            check_listed("format", format, FORMATS)
            poses = poses_of(pose_keypoints, person, 0, None, "pose_keypoints")
            folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
                filename_prefix, folder_paths.get_output_directory(), *poses.size
            )
            file = Path(folder) / f"{name}_{counter:05}_.{format}"
            if format == "npz":
                poses.save(file)
            else:
                with whole_file(file) as part:
                    part.write_text(json.dumps(pose_keypoints))
            return io.NodeOutput(ui={"text": (str(Path(subfolder) / file.name),)})
