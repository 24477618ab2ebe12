"""The stage of the objects that a person holds (AA2): found by name, followed, their masks written."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from animate_anyone.engines.engine import Resources
from animate_anyone.media import whole_file
from animate_anyone.perception.objects.tracking import ObjectLocator, ObjectTracker, find_objects
from animate_anyone.preparation.clip import Clip
from animate_anyone.preparation.clip_stages import place


class WriteObjects:
    """Writes masks without loss: ``masks`` (objects, frames, height, packed width), ``shape`` unpacked, ``names``.

    Where none is found there is no file. The frames of the clip are held in memory.

    Args:
        load: gives what finds objects and what follows them.
    """

    name: ClassVar[str] = "objects"
    inputs: ClassVar[tuple[str, ...]] = ("id", "folder", "frames", "poses", "crop", "size", "files")
    outputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources()

    def __init__(self, load: Callable[[], tuple[ObjectLocator, ObjectTracker]]) -> None:
        self._locator, self._tracker = load()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`InputError` where the data set cannot be written."""
        tracks = find_objects(list(item.pictures()), self._locator, self._tracker)
        tracks = tuple(track for track in tracks if track.there.any())
        if not tracks:
            return
        masks = np.stack([track.masks for track in tracks])
        item.files["objects"] = f"{place(item.id)}.objects.npz"
        content = io.BytesIO()
        np.savez_compressed(
            content,
            masks=np.packbits(masks, axis=3),
            shape=np.array(masks.shape, np.int64),
            names=np.array([track.name for track in tracks]),
        )
        with whole_file(item.folder / item.files["objects"]) as part:
            part.write_bytes(content.getvalue())


class WriteObjectsOnGpu(WriteObjects):
    """As :class:`WriteObjects`, found by a network on a GPU."""

    resources: ClassVar[Resources] = Resources(gpus=1.0)
