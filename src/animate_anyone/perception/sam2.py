"""Masks that follow marks through a video, by SAM2 (transformers' ``Sam2VideoModel``), weights from a folder.

Pictures and clicks are prepared here: the processors of transformers ask for torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from animate_anyone.perception.backends import load_network, network_input
from animate_anyone.perception.track_checks import finished
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Mask, MaskTrack, ObjectMark, Picture, Size
from animate_anyone.system.frame_sequence import StoredFrames

if TYPE_CHECKING:
    import torch

_INSIDE, _OUTSIDE, _TOP_LEFT, _BOTTOM_RIGHT = 1, 0, 2, 3  # SAM2's labels of points
_ABSENT = 0.0  # object score below which SAM2 says that the object is not there


class Sam2Tracker:
    """Tracker ``sam2``; see :class:`~animate_anyone.perception.objects.tracking.ObjectTracker`.

    Args:
        weights: a folder with a ``Sam2VideoModel`` as transformers saves it.
        device: ``cpu``, ``cuda`` or ``mps``.
        model: a ready model; then nothing is loaded.

    Raises:
        InputError: no folder is given, or it holds no such network.
    """

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", model: Any = None) -> None:
        self._model = load_network("Sam2VideoModel", weights, "sam2") if model is None else model
        self._model = self._model.eval().to(device)
        self._device = device

    def track(
        self, frames: Sequence[Picture], marks: Sequence[ObjectMark], progress: Progress = SILENT
    ) -> tuple[MaskTrack, ...]:
        """One track an object, in the order of the marks; see the protocol."""
        import torch
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        if not marks:
            return ()
        height, width = frames[0].shape[:2]
        names = list(dict.fromkeys(mark.name for mark in marks))
        side = int(self._model.config.image_size)
        tracks = []
        for name in names:
            masks: StoredFrames[np.bool_] = StoredFrames(len(frames), (height, width), bool)
            own = [mark for mark in marks if mark.name == name]
            session = Sam2VideoInferenceSession(
                video=None,
                video_height=height,
                video_width=width,
                inference_device=self._device,
                inference_state_device=self._device,
                dtype=self._model.dtype,
            )
            session.processed_frames = _Prepared(frames, side, self._model.dtype)
            with torch.inference_mode():
                for mark in own:
                    self._click(session, mark, side / width, side / height)
                    self._model(inference_session=session, frame_idx=mark.frame)
                first = own[0].frame
                runs = [(first, False)] + ([(first, True)] if first else [])
                for start, reverse in runs:
                    steps = self._model.propagate_in_video_iterator(session, start_frame_idx=start, reverse=reverse)
                    for found in progress.track(steps, description=name):
                        masks[found.frame_idx] = self._mask(found, (height, width))
                        self._forget(session, (found.frame_idx, first))
            tracks.append(finished(masks, name, marks))
        return tuple(tracks)

    def _click(self, session: Any, mark: ObjectMark, scale_x: float, scale_y: float) -> None:
        import torch

        clicks = [] if mark.box is None else [(mark.box[:2], _TOP_LEFT), (mark.box[2:], _BOTTOM_RIGHT)]
        clicks += [(point, _INSIDE) for point in mark.points] + [(point, _OUTSIDE) for point in mark.outside]
        places = torch.tensor([[[(x * scale_x, y * scale_y) for (x, y), _ in clicks]]], dtype=torch.float32)
        labels = torch.tensor([[[label for _, label in clicks]]], dtype=torch.int32)
        index = session.obj_id_to_idx(1)
        session.add_point_inputs(
            index, mark.frame, {"point_coords": places.to(self._model.dtype), "point_labels": labels}
        )
        session.obj_with_new_inputs = [1]

    def _forget(self, session: Any, near: Sequence[int]) -> None:
        """Drop what is remembered of frames without a mark that are too far from all of ``near`` to be looked at again.

        SAM2 keeps some MiB of every frame. It looks back a few, and the way back begins where the way on began.
        """
        reach = max(self._model.config.num_maskmem, self._model.config.max_object_pointers_in_encoder)
        remembered = session.output_dict_per_obj[session.obj_id_to_idx(1)]["non_cond_frame_outputs"]
        for frame in [frame for frame in remembered if all(abs(frame - other) > reach for other in near)]:
            del remembered[frame]

    def _mask(self, found: Any, size: Size) -> Mask:
        import torch

        if found.object_score_logits is not None and float(found.object_score_logits.max()) < _ABSENT:
            return np.zeros(size, bool)
        logits = found.pred_masks.float().reshape(1, 1, *found.pred_masks.shape[-2:])
        enlarged = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        return (enlarged[0, 0] > 0).cpu().numpy()


class _Prepared:
    """Frames as SAM2 takes them, ``(3, side, side)``, made when asked for: all at once would fill the memory."""

    def __init__(self, frames: Sequence[Picture], side: int, dtype: torch.dtype) -> None:
        self._frames, self._side, self._dtype = frames, side, dtype

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> torch.Tensor:
        return network_input(self._frames[number], (self._side, self._side), "bilinear")[0].to(self._dtype)
