"""VIDEO: of a file, and of frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch


@dataclass
class VideoComponents:
    """What a video is made of: IMAGE, frames per second, AUDIO."""

    images: torch.Tensor
    frame_rate: Fraction
    audio: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class VideoFromComponents:
    """A video in memory."""

    def __init__(self, components: VideoComponents) -> None:
        self._components = components

    def get_components(self) -> VideoComponents:
        """What it is made of."""
        return self._components

    def save_to(self, path: str) -> None:
        """Write an MP4, H.264 and AAC."""
        images, audio = self._components.images, self._components.audio
        with av.open(path, "w") as output:
            stream = output.add_stream("libx264", rate=self._components.frame_rate)
            stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], "yuv420p"
            sound = None if audio is None else output.add_stream("aac", rate=audio["sample_rate"])
            for image in images:
                frame = av.VideoFrame.from_ndarray((image * 255).round().byte().numpy(), format="rgb24")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if sound is not None and audio is not None:
                samples = audio["waveform"][0].float().mean(0, keepdim=True).numpy()
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = audio["sample_rate"], 0
                output.mux(sound.encode(frame))
                output.mux(sound.encode(None))


class VideoFromFile:
    """A video in a file."""

    def __init__(self, file: str) -> None:
        self._file = file

    def get_components(self) -> VideoComponents:
        """All of it, decoded."""
        with av.open(self._file) as container:
            rate = container.streams.video[0].average_rate
            images = [torch.from_numpy(f.to_ndarray(format="rgb24")) / 255 for f in container.decode(video=0)]
        audio = None
        with av.open(self._file) as container:
            if container.streams.audio:
                sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
                heard = container.streams.audio[0].sample_rate
                audio = {"waveform": torch.from_numpy(sound)[None], "sample_rate": heard}
        assert rate is not None
        return VideoComponents(torch.stack(images), Fraction(rate), audio)
