"""Animate Anyone's nodes for ComfyUI (V3 schema): ``comfy_entrypoint`` is what ComfyUI calls when it starts.

The nodes know no logic of their own: they turn ComfyUI's types into those of the package ``animate_anyone``, call its
functions, and turn back what those give.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("animate_anyone") is None:
    raise ImportError(
        "animate_anyone is not installed in the Python that runs ComfyUI; type there: "
        'python -m pip install "animate-anyone[pose]"'
    )

from comfy_api.latest import ComfyExtension, io

from .animate import Animate
from .draw_poses import DrawPoses
from .find_poses import FindPoses
from .load_model import LoadModel, add_model_folder
from .load_poses import LoadPoses
from .person_mask import PersonMask
from .replace import Replace
from .retarget_poses import RetargetPoses
from .save_poses import SavePoses

WEB_DIRECTORY = "./web"
"""The help pages are in ``web/docs``, one a node, named as the node is."""
NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    FindPoses,
    RetargetPoses,
    DrawPoses,
    Animate,
    PersonMask,
    Replace,
    SavePoses,
    LoadPoses,
]


class AnimateAnyoneExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes of this pack."""
        return NODES


async def comfy_entrypoint() -> AnimateAnyoneExtension:
    """Called by ComfyUI; makes ``models/animate_anyone`` a folder of models."""
    add_model_folder()
    return AnimateAnyoneExtension()
