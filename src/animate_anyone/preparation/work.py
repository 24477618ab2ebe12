"""What an engine is given to run: one source looked through, or one clip made; each leaves its record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.perception import estimator_options, load_estimator
from animate_anyone.perception.joint_depth import load_depth
from animate_anyone.perception.objects.locators import TextLocator
from animate_anyone.perception.objects.tracking import ObjectLocator, ObjectTracker, load_tracker
from animate_anyone.perception.person.masks import load_masker
from animate_anyone.preparation import records
from animate_anyone.preparation.clip import Clip
from animate_anyone.preparation.clip_stages import (
    CheckOverlay,
    CheckPerson,
    CropPerson,
    TrackPerson,
    TrackPersonOnGpu,
    WriteClip,
    WriteMasks,
    sha256,
    write_thumbnail,
)
from animate_anyone.preparation.depth_stage import MeasureDepth, MeasureDepthOnGpu
from animate_anyone.preparation.object_stage import WriteObjects, WriteObjectsOnGpu
from animate_anyone.preparation.pieces import BrokenError, Piece, SourceFile, source_stages
from animate_anyone.preparation.records import Records
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.sources import Source
from animate_anyone.preparation.stage import DroppedError, Stage, check_stages, run_stages


@dataclass(frozen=True)
class SourceJob:
    """A source to look through."""

    source: Source
    settings: PrepareSettings
    dataset: Path


@dataclass(frozen=True)
class ClipJob:
    """A clip to make; ``id`` names its files."""

    id: str
    source: Source
    piece: Piece
    settings: PrepareSettings
    dataset: Path


Seconds = dict[str, float]
"""Time spent, by the stages' names."""


def look_through(job: SourceJob) -> Seconds:
    """Look a source through and leave its record. Raises :class:`InputError` where that cannot be written."""
    item, seconds = SourceFile(job.source, job.settings), Seconds()
    record: dict[str, Any]
    try:
        run_stages(_source_stages(), item, seconds)
        record = {
            "status": records.KEPT,
            "sha256": item.sha256,
            "pieces": [asdict(piece) for piece in item.pieces],
        }
    except BrokenError as error:
        record = {"status": records.BROKEN, "reason": str(error)}
    except InputError:
        raise
    except Exception as error:
        record = {"status": records.FAILED, "reason": _shown(error)}
    Records(job.dataset, job.settings).write_source(job.source, record)
    return seconds


def make_clip(job: ClipJob) -> Seconds:
    """Make a clip and leave its record. Raises :class:`InputError` where they cannot be written."""
    item, seconds = Clip(job.id, job.source, job.piece, job.settings, job.dataset), Seconds()
    record: dict[str, Any]
    try:
        run_stages(clip_stages(job.settings), item, seconds)
        assert item.frames is not None and item.crop is not None
        crop = item.crop
        record = {
            "status": records.KEPT,
            **item.entry(),
            "frames": len(item.frames),
            "fps": str(item.frames.fps),
            "width": item.size[0],
            "height": item.size[1],
            "crop": [crop.left, crop.top, crop.width, crop.height],
        }
    except DroppedError as error:
        record = {"status": records.DROPPED, "reason": error.reason, "detail": error.detail, **item.entry()}
        _show_dropped(item)
    except BrokenError as error:
        record = {"status": records.BROKEN, "reason": str(error), **item.entry()}
    except InputError:
        raise
    except Exception as error:
        record = {"status": records.FAILED, "reason": _shown(error), **item.entry()}
    written = {kind: file for kind, file in sorted(item.files.items()) if (job.dataset / file).is_file()}
    record["files"] = {kind: {"path": file, "sha256": sha256(job.dataset / file)} for kind, file in written.items()}
    Records(job.dataset, job.settings).write_clip(job.id, record)
    return seconds


def leave_failed(job: SourceJob | ClipJob, reason: str) -> None:
    """Leave the record of a job that was not done. Raises :class:`InputError` where it cannot be written."""
    memory, record = Records(job.dataset, job.settings), {"status": records.FAILED, "reason": reason}
    if isinstance(job, SourceJob):
        memory.write_source(job.source, record)
    else:
        memory.write_clip(job.id, {**record, "first": job.piece.first, "stop": job.piece.stop, "files": {}})


@cache
def clip_stages(settings: PrepareSettings) -> Sequence[Stage]:
    """What a clip goes through, in order; loaded once in each process."""
    on_gpu = settings.device.startswith("cuda")
    tracker = TrackPersonOnGpu if on_gpu else TrackPerson
    networks = settings.rtmlib_mode, settings.rtmlib_detector, settings.rtmlib_pose
    options = estimator_options(settings.pose_estimator, *networks)
    stages: list[Stage] = [tracker(lambda: load_estimator(settings.pose_estimator, settings.device, **options))]
    if settings.depth is not None:
        folder = Path(settings.depth)
        measure = MeasureDepthOnGpu if on_gpu else MeasureDepth
        stages.append(measure(lambda: load_depth(folder, settings.device)))
    stages += [CheckPerson(), CropPerson(), CheckOverlay(), WriteClip()]
    if settings.masks:
        stages.append(WriteMasks(load_masker))
    if settings.objects is not None:
        write = WriteObjectsOnGpu if on_gpu else WriteObjects
        stages.append(write(lambda: _objects(settings)))
    check_stages(stages, ("id", "source", "piece", "settings", "folder"))
    return stages


def _objects(settings: PrepareSettings) -> tuple[ObjectLocator, ObjectTracker]:
    assert settings.objects is not None
    return TextLocator(settings.objects.split(","), settings.object_weights, settings.device), load_tracker()


@cache
def _source_stages() -> Sequence[Stage]:
    stages = source_stages()
    check_stages(stages, ("source", "settings"))
    return stages


def _show_dropped(item: Clip) -> None:
    """A thumbnail of what was dropped, to look at; none where its frames cannot be read."""
    assert item.frames is not None
    item.files = {}
    with suppress(BrokenError):
        for picture in item.frames.some([len(item.frames) // 2]):
            item.files["thumbnail"] = write_thumbnail(item, picture)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
