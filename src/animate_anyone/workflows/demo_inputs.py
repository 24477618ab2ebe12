"""Inputs to try a workflow with, drawn by the studio that the shipped models were trained in: no download."""

from __future__ import annotations

from pathlib import Path

from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.synthetic.scenes import character_picture, sample_scene_clip

CHARACTER, DANCER = 0, 11
"""Seeds, of the part that no model was trained on."""
FRAMES = 16
SIDE = 512


def write_demo_inputs(folder: Path, verb: str, frames: int = FRAMES, side: int = SIDE) -> dict[str, str]:
    """Write a character's picture and what drives it; their names, as ``character``, and ``poses`` or ``video``.

    Args:
        verb: ``animate`` gets a dance's poses, ``replace`` a video of somebody in a room.
    """
    size = (side, side)
    if verb == "animate":
        clip = sample_clip(CHARACTER, split="held_out", num_frames=frames, size=size, frame_indices=[0])
        write_picture(folder / "character.png", clip.frames[0].cpu().numpy())
        dance = sample_clip(DANCER, split="held_out", num_frames=frames, motion="dance", size=(128, 128), supersample=1)
        dance.pose.save(folder / "dance.npz")
        return {"character": "character.png", "poses": "dance.npz"}
    subject = character_picture(CHARACTER, split="held_out", num_frames=frames, size=size)
    write_picture(folder / "character.png", subject.picture)
    scene = sample_scene_clip(DANCER, split="held_out", num_frames=frames, size=size, supersample=1)
    with VideoWriter(folder / "scene.mp4", size, scene.pose.fps) as video:
        for frame in scene.frames:
            video.write(frame.cpu().numpy())
    return {"character": "character.png", "video": "scene.mp4"}
