"""Load Poses: what Save Poses, ``animate-anyone pose`` or other nodes wrote, from ComfyUI's input folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from animate_anyone.errors import InputError
from animate_anyone.interop.openpose_json import read_poses, write_poses
from animate_anyone.structures import PoseSequence

from .running import check_listed, in_words_of_nodes, valid
from .save_poses import FORMATS
from .values import Poses


def pose_files() -> list[str]:
    """The names of the files that may be poses."""
    folder = Path(folder_paths.get_input_directory())
    return sorted(file.name for file in folder.iterdir() if file.suffix.lower()[1:] in FORMATS and file.is_file())


class LoadPoses(io.ComfyNode):
    """A file that was changed is read again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnimateAnyoneLoadPoses",
            display_name="Load Poses (Animate Anyone)",
            category="Animate Anyone/poses",
            description="Reads poses from ComfyUI's input folder.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=pose_files(),
                    tooltip="In ComfyUI's input folder: .npz of animate-anyone, or .json of OpenPose's dictionaries.",
                )
            ],
            outputs=[Poses.Output(display_name="pose_keypoints", tooltip="One OpenPose dictionary a frame.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return file is None or valid(
            lambda: check_listed("file of poses in ComfyUI's input folder", file, pose_files())
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        if file not in pose_files():
            return file
        found = Path(folder_paths.get_annotated_filepath(file)).stat()
        return found.st_mtime_ns, found.st_size

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        with in_words_of_nodes():
            check_listed("file of poses in ComfyUI's input folder", file, pose_files())
            path = Path(folder_paths.get_annotated_filepath(file))
            if path.suffix.lower() == ".npz":
                return io.NodeOutput(write_poses(PoseSequence.load(path)))
            try:
                frames = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                raise InputError(f"{file}: cannot be read as JSON; give what Save Poses wrote, or .npz") from None
            read_poses(frames, name=file)  # it is of the form
            return io.NodeOutput([frames] if isinstance(frames, dict) else frames)
