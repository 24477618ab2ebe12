"""What both pipelines do between pictures and latents: sizes, encoding, the initial noise, decoding, finding NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import GuessOptions, lost_detail
from animate_anyone.models.autoencoding import at_once, decode, encode
from animate_anyone.sampling.clip_conditions import ClipGuess
from animate_anyone.sampling.frame_features import FrameFeatures
from animate_anyone.sampling.inputs import Pictures
from animate_anyone.sampling.ranks import ALONE, Ranks


def stretch(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``picture`` ``(h, w, 3)`` at ``size`` (width, height), its aspect not kept; a copy where it has that size.

    As the samplers of the published open checkpoints do.
    """
    if picture.shape[1::-1] == size:
        return picture.copy()
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)).copy()


def pixels(picture: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A picture ``(height, width, 3)`` as ``(1, 3, height, width)`` in [-1, 1]."""
    return torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1


def initial_noise(
    shape: Sequence[int], frame_axis: int, *, shared: bool, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Standard normal noise for a clip's latents, float32; training draws it so too.

    Args:
        shape: of the latents.
        frame_axis: which axis of ``shape`` counts the frames of one clip.
        shared: all frames of a clip get the same noise (``shared_noise`` of the pipelines), else each its own.
        generator: one of the CPU gives the same noise on every device; ``None`` is the device's own.
        device: where the noise is wanted.

    Returns:
        Noise of ``shape``; with ``shared`` an expanded view, not to be written to.
    """
    drawn = list(shape)
    if shared:
        drawn[frame_axis] = 1
    noise = randn_tensor(tuple(drawn), generator=generator, device=device, dtype=torch.float32)
    return noise.expand(*shape)


def check_finite(networks: Mapping[str, nn.Module], values: Tensor, what: str) -> None:
    """See that values are finite, neither NaN nor infinity.

    Args:
        networks: those that made them, ``denoising_unet`` among them.
        what: what gave them, e.g. ``"step 3 of 20 gave"``.

    Raises:
        InputError: they are not; it says which weights are to blame, or which number type.
    """
    if torch.isfinite(values).all():
        return
    tensors = ((f"{p}/{name}", t) for p, network in networks.items() for name, t in network.state_dict().items())
    found = (n for n, t in tensors if t.is_floating_point() and not t.is_meta and not torch.isfinite(t).all())
    damaged = next(found, None)
    dtype = str(networks["denoising_unet"].dtype).removeprefix("torch.")
    if damaged is not None:
        # Cast to float16, large weights become infinite.
        or_else = " (or too large for float16: give --dtype float32)" if dtype == "float16" else ""
        raise InputError(f"{what} NaN or infinity: {damaged} is not finite; the weights are damaged{or_else}")
    if dtype != "float32":
        raise InputError(f"{what} NaN or infinity in {dtype}; give --dtype float32")
    raise InputError(f"{what} NaN or infinity, in float32 and with weights that are finite; this model cannot be used")


Finish = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]
"""A frame's number and the frame in, what is handed out in its place out."""


@dataclass(frozen=True)
class Output:
    """What is done with frames when they are decoded.

    Attributes:
        finish: a frame's number and the frame in, what is handed out in its place out.
        after_part: told, when the frames of a part are handed out, the number of the next frame, and the latents
            that wait for those that they are decoded with.
        ranks: the processes that share the work.
        together: frames that are decoded at once; ``None``: as many as suit their size.
    """

    finish: Finish = lambda number, frame: frame
    after_part: Callable[[int, Tensor], None] = lambda first, waiting: None
    ranks: Ranks = ALONE
    together: int | None = None


PLAIN = Output()


@dataclass
class AnimateAnyoneOutput(BaseOutput):
    """What a pipeline returns.

    Attributes:
        frames: ``(frames, height, width, 3)`` uint8, or latents for ``output_type="latent"``.
    """

    frames: NDArray[np.uint8] | Tensor


class LatentVideoPipeline(DiffusionPipeline):
    """A pipeline that makes a clip's latents with a VAE and a schedule; subclasses say how."""

    vae: AutoencoderKL
    scheduler: DDIMScheduler

    @property
    def latent_downscale(self) -> int:
        """Pixels per latent cell, per side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def guess_options(self) -> GuessOptions:
        """What the model is given of a first guess."""
        return GuessOptions.of(self.config)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks, by part."""
        return {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}

    @torch.no_grad()
    def decode(
        self, latents: Tensor, carried: Pictures | None = None, guess: ClipGuess | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """The frames ``(height, width, 3)`` uint8 of ``(1, channels, frames, h, w)`` latents.

        Args:
            carried: as in the call.
            guess: in its place, that of the conditions which the latents were denoised with.

        Raises:
            InputError: a frame is not finite.
        """
        height, width = latents.shape[-2:]
        size = self._frame_size((height, width))
        if guess is None:
            guess = self._clip_guess(None, carried if self.guess_options.keep_detail else None, size)
        yield from self._decode(iter([(0, latents)]), guess, size)

    def _frame_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """``(width, height)`` of frames, of the height and width of their latents."""
        return grid[1] * self.latent_downscale, grid[0] * self.latent_downscale

    @torch.no_grad()
    def _decode(
        self, parts: Iterable[tuple[int, Tensor]], guess: ClipGuess, size: tuple[int, int], out: Output = PLAIN
    ) -> Iterator[NDArray[np.uint8]]:
        """The frames of latents that come part after part, each with the number of its first frame.

        Frames are decoded together that begin at a multiple of their count: how the clip is parted changes nothing.
        Several processes decode when there is a batch for each.

        Args:
            guess: whose detail is put back.
            size: ``(width, height)`` of the frames.
            out: what is done with them.
        """
        count, waiting, first = out.together or at_once(*size), list[Tensor](), 0
        for begin, part in parts:
            first = first if waiting else begin
            waiting.append(part)
            behind, ready = begin + part.shape[2], torch.cat(waiting, 2)
            ends = [stop for stop in range(first - first % count + count, behind + 1, count) if stop > first]
            batches = list[tuple[int, Tensor]]()
            for stop in ends[: len(ends) - len(ends) % out.ranks.count]:
                batches.append((first, ready[:, :, : stop - first]))
                ready, first = ready[:, :, stop - first :], stop
            yield from self._shared_out(batches, guess, out)
            waiting = [ready] if first < behind else []
            out.after_part(first, ready)
        if waiting:
            stops = [*range(first - first % count + count, behind, count), behind]
            starts = [first, *stops[:-1]]
            left = [(a, waiting[0][:, :, a - first : b - first]) for a, b in zip(starts, stops, strict=True)]
            yield from self._shared_out(left, guess, out)

    def _shared_out(
        self, batches: list[tuple[int, Tensor]], guess: ClipGuess, out: Output
    ) -> Iterator[NDArray[np.uint8]]:
        """The frames of some batches, of which each process decodes some; the first process hands them out."""

        def made(batch: tuple[int, Tensor]) -> Tensor:
            first, latents = batch
            frames = self._decode_together(latents, guess, first)
            finished = [out.finish(number, frame) for number, frame in enumerate(frames, first)]
            return torch.from_numpy(np.stack(finished)).to(latents.device if out.ranks.count > 1 else "cpu")

        for few in range(0, len(batches), out.ranks.count):  # so that no more frames wait than there are processes
            for frames in out.ranks.share(batches[few : few + out.ranks.count], made, self._execution_device):
                if out.ranks.is_first:
                    yield from frames.cpu().numpy()

    def _decode_together(self, latents: Tensor, guess: ClipGuess, first: int) -> list[NDArray[np.uint8]]:
        vae = self.vae
        some = latents[0].transpose(0, 1).contiguous()  # (n, c, h, w)
        pixels = decode(vae, some.to(vae.dtype) / vae.config["scaling_factor"])
        if guess.pictures is not None and guess.means is not None:
            frames = range(first, first + len(some))
            pictures = [guess.pictures[frame] for frame in frames]
            pixels = pixels + lost_detail(vae, some, pictures, guess.means.of(frames)[0][0].transpose(0, 1))
        if not torch.isfinite(pixels).all():
            dtype = str(vae.dtype).removeprefix("torch.")
            advice = "the autoencoder's weights are damaged" if dtype == "float32" else "give --dtype float32"
            raise InputError(f"decoding frame {first + 1} gave NaN or infinity in {dtype}; {advice}")
        shown = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [np.ascontiguousarray(frame) for frame in shown]

    def _clip_guess(self, reference: Tensor | None, pictures: Pictures | None, size: tuple[int, int]) -> ClipGuess:
        """The first guess at a clip, of one picture a frame or of the reference's latents ``(1, channels, h, w)``."""
        options = self.guess_options
        if pictures is not None and options.reference_latents:
            scale: float = self.vae.config["scaling_factor"]
            return ClipGuess(None, self._features(pictures, size), scale, pictures if options.keep_detail else None)
        if reference is None or not options.reference_latents:
            return ClipGuess()
        return ClipGuess(reference[:, :, None])

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None, latents: Tensor | None) -> Tensor:
        """The noise that denoising begins with, ``(1, channels, frames, h, w)``; ``latents`` where they are given."""
        device = self._execution_device
        if latents is None:
            shared = self.guess_options.shared_noise
            latents = initial_noise(shape, 2, shared=shared, generator=generator, device=device)
        elif tuple(latents.shape) != shape:
            raise InputError(f"latents have shape {tuple(latents.shape)}; they must be {shape}")
        latents, sigma = latents.to(device, torch.float32), float(self.scheduler.init_noise_sigma)
        return latents if sigma == 1 else latents * sigma  # a view of one frame's noise stays one

    def _encode(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """Latents ``(1, c, frames, h, w)`` of a few frames, scaled; on the CPU."""
        return self._encode_means(pictures, size) * self.vae.config["scaling_factor"]

    def _encode_means(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """As :meth:`_encode`, not scaled."""
        device = self._execution_device
        some = np.stack([stretch(picture, size) for picture in pictures])
        pixels = torch.from_numpy(some).to(device).permute(0, 3, 1, 2).contiguous()
        return encode(self.vae, pixels.float() / 127.5 - 1).cpu().transpose(0, 1)[None].contiguous()

    def _features(self, pictures: Pictures, size: tuple[int, int], scale: float = 1.0) -> FrameFeatures:
        """Latents of a clip's pictures, times ``scale``."""

        def make(frames: range) -> tuple[Tensor]:
            return (self._encode_means([pictures[frame] for frame in frames], size) * scale,)

        return FrameFeatures(len(pictures), at_once(*size), make)
