"""As much of ComfyUI's ``comfy_api.latest`` as the node pack uses, and stricter: names and arguments are ComfyUI's own.

An argument that ComfyUI does not know is a ``TypeError``; a schema with an input or output that lacks its tooltip, or
with names given twice, an ``AssertionError``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import SimpleNamespace

from . import io
from .video import VideoComponents, VideoFromComponents, VideoFromFile

__all__ = ["ComfyExtension", "InputImpl", "Types", "io"]

InputImpl = SimpleNamespace(VideoFromComponents=VideoFromComponents, VideoFromFile=VideoFromFile)
Types = SimpleNamespace(VideoComponents=VideoComponents)


class ComfyExtension(ABC):
    """What a pack's ``comfy_entrypoint`` gives."""

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes."""
