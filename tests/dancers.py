"""Files to animate with: a character, a dance as poses, as a video with sound, and as a skeleton video."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.structures import BODY
from animate_anyone.synthetic.dataset import sample_clip

FRAMES, FPS, SIZE = 12, Fraction(12), (256, 256)
# Studio seeds.
SEEN_WHOLE = 8  # every joint of the body is in the picture: the character
UPPER_BODY = 1  # framed at the hips, arms that move: the dance


def make(folder: Path) -> None:
    """Write ``me.png``, ``me.npz`` (its pose), ``dance.npz``, ``dance.mp4`` and ``skeleton.mp4``, one second long."""
    character = sample_clip(SEEN_WHOLE, num_frames=1, size=(192, 256), supersample=1)
    assert (character.pose.scores[:, BODY] > 0.3).all()
    write_picture(folder / "me.png", character.frames[0].numpy())
    character.pose.save(folder / "me.npz")
    dance = sample_clip(UPPER_BODY, num_frames=FRAMES, size=SIZE, fps=FPS, motion="dance", supersample=1)
    dance.pose.save(folder / "dance.npz")
    sound = make_sound(folder / "sound.wav", 1.0)
    with VideoWriter(folder / "dance.mp4", SIZE, FPS, audio_from=sound) as video:
        for frame in dance.frames.numpy():
            video.write(frame)
    with VideoWriter(folder / "skeleton.mp4", SIZE, FPS, audio_from=sound) as video:
        for frame in draw_pose(dance.pose, SIZE, style="dwpose"):
            video.write(frame)


def make_sound(path: Path, seconds: float) -> Path:
    """A tone of 440 Hz, silent in its first half."""
    time = np.arange(round(seconds * 44100)) / 44100
    samples = (np.sin(2 * np.pi * 440 * time) * (time >= seconds / 2) * 12000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(samples.tobytes())
    return path
