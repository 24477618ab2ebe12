"""ComfyUI's own nodes that the example workflows use, where ComfyUI itself is not there: files in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import InputImpl, io
from PIL import Image


class LoadImage(io.ComfyNode):
    """IMAGE of a picture in the input folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = sorted(file.name for file in Path(folder_paths.get_input_directory()).iterdir())
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            description="Reads a picture.",
            inputs=[io.Combo.Input("image", options=names, tooltip="The file.")],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The picture."),
                io.Mask.Output(display_name="MASK", tooltip="What is seen through."),
            ],
        )

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        picture = np.array(Image.open(folder_paths.get_annotated_filepath(image)).convert("RGB"))
        return io.NodeOutput(torch.from_numpy(picture).float()[None] / 255, torch.zeros(1, 64, 64))


class LoadVideo(io.ComfyNode):
    """VIDEO of a file in the input folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = sorted(file.name for file in Path(folder_paths.get_input_directory()).iterdir())
        return io.Schema(
            node_id="LoadVideo",
            display_name="Load Video",
            category="image/video",
            description="Reads a video.",
            inputs=[io.Combo.Input("file", options=names, tooltip="The file.")],
            outputs=[io.Video.Output(display_name="VIDEO", tooltip="The video.")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(InputImpl.VideoFromFile(folder_paths.get_annotated_filepath(file)))


class SaveVideo(io.ComfyNode):
    """VIDEO into the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveVideo",
            display_name="Save Video",
            category="image/video",
            description="Writes a video.",
            inputs=[
                io.Video.Input("video", tooltip="The video."),
                io.String.Input("filename_prefix", default="video/ComfyUI", tooltip="How its name begins."),
                io.Combo.Input("format", options=["auto", "mp4"], default="auto", tooltip="Of the file."),
                io.Combo.Input("codec", options=["auto", "h264"], default="auto", tooltip="Of the pictures."),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video: Any, filename_prefix: str, format: str, codec: str) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), 0, 0
        )
        file = f"{name}_{counter:05}_.mp4"
        video.save_to(str(Path(folder) / file))
        return io.NodeOutput(ui={"images": [{"filename": file, "subfolder": subfolder, "type": "output"}]})


class PreviewImage(io.ComfyNode):
    """IMAGE into the folder of temporary files; here into the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            description="Shows pictures.",
            inputs=[io.Image.Input("images", tooltip="The pictures.")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images: Any) -> io.NodeOutput:
        names = []
        for image in images:
            folder, name, counter, _, _ = folder_paths.get_save_image_path(
                "preview", folder_paths.get_output_directory(), 0, 0
            )
            names.append(f"{name}_{counter:05}_.png")
            Image.fromarray((image * 255).round().byte().numpy()).save(Path(folder) / names[-1])
        return io.NodeOutput(ui={"images": [{"filename": name, "subfolder": "", "type": "output"} for name in names]})


class MaskToImage(io.ComfyNode):
    """MASK as an IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskToImage",
            display_name="Convert Mask to Image",
            category="mask",
            description="Shows masks.",
            inputs=[io.Mask.Input("mask", tooltip="The masks.")],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The pictures.")],
        )

    @classmethod
    def execute(cls, mask: Any) -> io.NodeOutput:
        return io.NodeOutput(mask[..., None].expand(-1, -1, -1, 3))


NODES = [MaskToImage, LoadImage, LoadVideo, SaveVideo, PreviewImage]
