"""What perception found in a source video, kept in a file, so that a second run need not look at the video again."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.structures import MaskTrack, Pictures, PoseSequence, Scene, Subject
from animate_anyone.system.frame_sequence import StoredFrames
from animate_anyone.system.whole_files import whole_file

VERSION = 1
"""Of the file's form; another one is refused."""
_CHUNK = 16  # frames whose masks are compressed together


@dataclass(frozen=True)
class Decomposed:
    """A decomposed source video without its frames, and the character.

    Attributes:
        pose, person, objects: as :class:`~animate_anyone.structures.Scene` has them.
        subject: the character.
        lines: remarks for the user.
    """

    pose: PoseSequence
    person: MaskTrack
    objects: tuple[MaskTrack, ...]
    subject: Subject
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, scene: Scene, subject: Subject, lines: list[str]) -> Decomposed:
        """What was found of a scene."""
        return cls(scene.pose, scene.person, scene.objects, subject, tuple(lines))

    def scene(self, frames: Pictures) -> Scene:
        """The scene, with the frames ``(frames, height, width, 3)`` that it was found in."""
        return Scene(frames, self.pose, self.person, self.objects)

    def save(self, path: str | Path) -> None:
        """Write a file that :meth:`load` reads; nothing is lost, and it appears only when complete.

        It is a ZIP archive of ``.npy`` arrays, ``.npz`` poses and ``found.json``; masks are packed to bits.

        Raises:
            InputError: it cannot be written.
        """
        tracks = [{"name": track.name, "flagged": list(track.flagged)} for track in (self.person, *self.objects)]
        found = {"version": VERSION, "lines": self.lines, "tracks": tracks}
        with whole_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("found.json", json.dumps(found))
            _write_pose(archive, "poses.npz", self.pose)
            _write_array(archive, "picture.npy", self.subject.picture)
            if self.subject.silhouette is not None:
                _write_array(archive, "silhouette.npy", self.subject.silhouette)
            if self.subject.pose is not None:
                _write_pose(archive, "character.npz", self.subject.pose)
            for number, track in enumerate((self.person, *self.objects)):
                for start in range(0, len(track), _CHUNK):
                    frames = range(start, min(start + _CHUNK, len(track)))
                    packed = np.stack([np.packbits(track.masks[frame]) for frame in frames])
                    _write_array(archive, _chunk_name(number, start), packed)

    @classmethod
    def load(cls, path: str | Path) -> Decomposed:
        """Read what :meth:`save` wrote; masks are in a temporary file, not in memory.

        Raises:
            InputError: it cannot be read, is damaged, or is of another version.
        """
        with _reading(path) as archive:
            names = set(archive.namelist())
            found = json.loads(archive.read("found.json"))
            if found["version"] != VERSION:
                raise InputError(
                    f"{path}: of version {found['version']}, and {VERSION} is read; look at the video again"
                )
            pose = _read_pose(archive, "poses.npz")
            tracks = tuple(
                MaskTrack(
                    _read_masks(archive, number, pose),
                    track["name"],
                    tuple((int(frame), str(reason)) for frame, reason in track["flagged"]),
                )
                for number, track in enumerate(found["tracks"])
            )
            subject = Subject(
                _read_array(archive, "picture.npy"),
                _read_pose(archive, "character.npz") if "character.npz" in names else None,
                _read_array(archive, "silhouette.npy") if "silhouette.npy" in names else None,
            )
            return cls(pose, tracks[0], tracks[1:], subject, tuple(map(str, found["lines"])))


@contextmanager
def _reading(path: str | Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # of a damaged archive: zipfile, zlib, NumPy, json raise many
        cause = " ".join(str(error).split())
        raise InputError(f"{path}: not a whole file of what was found in a video ({cause})") from None


def _chunk_name(track: int, start: int) -> str:
    return f"masks/{track}/{start}.npy"


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(name, "w") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    return np.asarray(np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False))


def _write_pose(archive: zipfile.ZipFile, name: str, pose: PoseSequence) -> None:
    content = io.BytesIO()
    pose.save(content)
    archive.writestr(name, content.getvalue())


def _read_pose(archive: zipfile.ZipFile, name: str) -> PoseSequence:
    return PoseSequence.load(io.BytesIO(archive.read(name)))


def _read_masks(archive: zipfile.ZipFile, track: int, pose: PoseSequence) -> StoredFrames[np.bool_]:
    width, height = pose.size
    masks: StoredFrames[np.bool_] = StoredFrames(len(pose), (height, width), bool)
    for start in range(0, len(pose), _CHUNK):
        packed = _read_array(archive, _chunk_name(track, start))
        for number, bits in enumerate(packed, start):
            masks[number] = np.unpackbits(bits, count=height * width).view(bool).reshape(height, width)
    return masks
