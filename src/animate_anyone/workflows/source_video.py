"""A source video decomposed (Animate Anyone 2): who moves how, where they are, and what they hold."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.perception import PoseEstimator, load_estimator
from animate_anyone.perception.backends import check_folder
from animate_anyone.perception.joint_depth import DepthNetwork, check_depth, load_depth, measure_depth
from animate_anyone.perception.objects.asking import ASK, AskingLocator, check_asked
from animate_anyone.perception.objects.locators import TextLocator
from animate_anyone.perception.objects.marks_file import read_object_file
from animate_anyone.perception.objects.tracking import (
    TRACKERS,
    GivenMarks,
    ObjectLocator,
    ObjectTracker,
    find_objects,
    load_tracker,
)
from animate_anyone.perception.person.body_hull import body_box
from animate_anyone.perception.person.mask_checks import NOBODY
from animate_anyone.perception.person.masks import MASKERS, PersonMasker, load_masker
from animate_anyone.perception.person.people import track_person
from animate_anyone.perception.pose.quality import report as quality_report
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import MaskTrack, ObjectMark, PoseSequence, Scene, Subject
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.settings import WorkflowSettings, check_name

CLOSE_UP = 1.15
"""Side of the square of the character's picture that is shown to the model, over the character's longer side: as the
models are trained."""


@dataclass(frozen=True)
class SourceVideoSettings(WorkflowSettings):
    """How a source video is decomposed.

    Attributes:
        masker: ``mediapipe``, ``grabcut`` or ``sam2``.
        objects: a JSON file of marks, names with commas between, or ``ask``: a model is asked; ``None``: no objects.
        tracker: of objects, ``classical`` or ``sam2``.
        sam2_weights: a folder, for ``masker`` and ``tracker``.
        object_weights: a folder with Grounding DINO, for names; with a model of Qwen-VL's kind, for ``ask``.
        depth: a folder with a network that sees how far limbs are; ``None`` (``joints`` on the command line): the pose
            estimator says so.
    """

    _: KW_ONLY
    masker: str = "mediapipe"
    objects: str | None = None
    tracker: str = "classical"
    sam2_weights: Path | None = None
    object_weights: Path | None = None
    depth: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("masker", self.masker, MASKERS)
        check_name("tracker", self.tracker, TRACKERS)


@dataclass(frozen=True)
class Known:
    """What is known of a source video before anybody looks at it.

    Attributes:
        pose: of the person in the frames made, in pixels of the video; ``None``: it is estimated.
        person: their masks in those frames; ``None``: they are cut out.
        objects: masks of what they hold, beside those that are looked for.
    """

    pose: PoseSequence | None = None
    person: MaskTrack | None = None
    objects: tuple[MaskTrack, ...] = ()

    def check(self, driver: Driver) -> None:
        """Raise :class:`InputError` where one of them is not of the driver's frames."""
        frames, size = len(driver), driver.size
        if self.pose is not None and (len(self.pose), self.pose.size) != (frames, size):
            raise InputError(
                f"the poses given are {len(self.pose)} of {self.pose.size[0]}x{self.pose.size[1]} pixels, and {frames} "
                f"frames of {size[0]}x{size[1]} are made; give one for each, in their pixels"
            )
        for track in (*([self.person] if self.person else []), *self.objects):
            if track.masks.shape != (frames, size[1], size[0]):
                count, height, width = track.masks.shape
                raise InputError(
                    f"the masks given of {track.name} are {count} of {width}x{height} pixels, and {frames} frames of "
                    f"{size[0]}x{size[1]} are made; give one for each, of their size"
                )


NOTHING = Known()
"""Nothing is known."""


def check_perception(settings: SourceVideoSettings, video: str | Path, driver: Driver) -> list[ObjectMark] | None:
    """Where objects are marked; ``None``: there are none, or they are to be found by name.

    Raises:
        InputError: the video shows nobody, or marks or weights are missing.
    """
    if driver.ready is not None or driver.is_skeleton:
        what = "poses" if driver.ready is not None else "a skeleton video"
        raise InputError(f"{video}: holds {what}; replace needs the video of a person itself")
    if settings.masker == "sam2" or (settings.tracker == "sam2" and settings.objects is not None):
        check_folder(settings.sam2_weights, "sam2")
    if settings.depth is not None:
        check_depth(settings.depth)
    if settings.objects is None:
        return None
    if settings.objects == ASK:
        if settings.object_weights is None:
            raise InputError(
                "--objects ask: a model of Qwen-VL's kind is asked; give its folder: --object-weights FOLDER"
            )
        check_asked(settings.object_weights)
        return None
    if settings.objects.lower().endswith(".json") or Path(settings.objects).is_file():
        return read_object_file(settings.objects, driver.size, len(driver))
    if settings.object_weights is None:
        raise InputError(
            f"--objects {settings.objects}: no .json file, and to find objects by name Grounding DINO is needed; mark "
            "them in a .json file, or give --object-weights FOLDER"
        )
    check_folder(settings.object_weights, "Grounding DINO")
    if not all(name.strip() for name in settings.objects.split(",")):
        raise InputError(f"--objects {settings.objects!r}: give names with commas between, such as ball,bat")
    return None


@dataclass(frozen=True)
class Networks:
    """The networks and methods of perception: all are loaded before the first of them works, each once.

    Attributes:
        estimator: of poses.
        masker: cuts the person out.
        locator, tracker: find and follow objects; ``None`` where there are none.
        depth: sees how far limbs are; ``None``: the estimator says so.
    """

    estimator: PoseEstimator
    masker: PersonMasker
    locator: ObjectLocator | None = None
    tracker: ObjectTracker | None = None
    depth: DepthNetwork | None = None

    @classmethod
    def load(cls, settings: SourceVideoSettings, marks: list[ObjectMark] | None) -> Networks:
        """Those that ``settings`` name, on the model's device.

        Args:
            marks: where the objects are, if that is known; ``None``: they are found by name, if there are any.

        Raises:
            InputError: a package or weights are missing.
        """
        placed, dtype = settings.placement.resolve()
        device = str(placed)
        estimator = load_estimator(settings.pose_estimator, device=device, **settings.estimator_options)
        locator: ObjectLocator | None = None if marks is None else GivenMarks(marks)
        if settings.objects == ASK:
            locator = AskingLocator(settings.object_weights, device, dtype=dtype)
        elif settings.objects is not None and marks is None:
            locator = TextLocator(settings.objects.split(","), settings.object_weights, device)
        named = {"masker": settings.masker, "tracker": settings.tracker if locator else None}
        sam2 = load_tracker("sam2", weights=settings.sam2_weights, device=device) if "sam2" in named.values() else None
        masker = load_masker(settings.masker, **({"tracker": sam2} if named["masker"] == "sam2" else {}))
        tracker = load_tracker(settings.tracker) if named["tracker"] not in (None, "sam2") else None
        depth = None if settings.depth is None else load_depth(settings.depth, device)
        return cls(estimator, masker, locator, sam2 if named["tracker"] == "sam2" else tracker, depth)


def decompose(
    driver: Driver, networks: Networks, person: int = 0, progress: Progress = SILENT, known: Known = NOTHING
) -> tuple[Scene, list[str]]:
    """Decompose a video into motion, person and objects.

    Its frames are read several times, some of them being held in memory; masks lie on the disk.

    Args:
        driver: the video, and which of its frames.
        networks: of perception; without a locator there are no objects, without a tracker it is ``classical``.
        person: who, 0 is the largest in the first frame where anybody is.
        known: what is not looked for.

    Returns:
        The scene, at the video's size, and remarks on it for the user; their frame numbers count the frames made.

    Raises:
        InputError: nobody is found, or not so many people, or no mask comes out, or what is known is of other frames.
    """
    known.check(driver)
    frames = driver.result_frames()
    marks = [] if networks.locator is None else networks.locator.locate(frames)  # first: an answer may be of no use
    lines: list[str] = []
    doubtful: tuple[tuple[int, str], ...] = ()
    if known.pose is not None:
        poses = known.pose
        quality_report(poses).check(least=0.0)
        if networks.depth is not None:
            poses = measure_depth(poses, driver.pictures(), networks.depth, progress)
    else:
        followed = track_person(frames, driver.fps, networks.estimator, person, driver.times, progress)
        quality = quality_report(followed.poses)
        quality.check(least=0.0)
        seen = followed.poses
        if networks.depth is not None:
            seen = measure_depth(seen, driver.pictures(), networks.depth, progress)
        poses, lines = clean(seen), quality.lines()
        lines += followed.lines(person)
        doubtful = followed.flagged()
    mask_track = known.person or networks.masker.mask(frames, poses, progress)
    visible = mask_track.there
    if not visible.any():
        raise InputError(f"no mask of the person came out in any frame; try another --masker: {', '.join(MASKERS)}")
    mask_track = replace(mask_track, flagged=tuple(sorted((*mask_track.flagged, *doubtful))))
    somebody = replace(mask_track, flagged=tuple(doubt for doubt in mask_track.flagged if doubt[1] != NOBODY))
    lines += somebody.lines() or ["person: no mask is doubtful"]
    if not visible.all():
        numbers = ", ".join(map(str, np.flatnonzero(~visible)))
        lines.append(f"nobody to replace in frame {numbers}: the video's own frame stands there")
    objects = known.objects
    if networks.locator is not None:
        objects += find_objects(frames, GivenMarks(marks), networks.tracker, progress)
    if networks.locator is not None or objects:
        lines += [line for track in objects for line in track.lines()]
        found = [f"{track.name} in {int(track.there.sum())} of {len(track)} frames" for track in objects]
        lines.append(f"objects: {', '.join(found) or 'none was found'}")
    return Scene(pictures_of(driver), poses, mask_track, objects), lines


def pictures_of(driver: Driver) -> FrameSequence[np.uint8]:
    """The frames of a video, read in order as they are asked for; two of them are held in memory."""
    frames = driver.result_frames(kept=2)
    return MadeFrames(len(driver), (driver.size[1], driver.size[0], 3), np.uint8, frames.__getitem__)


def crop_to_character(
    picture: NDArray[np.uint8], known: PoseSequence | None, masker: PersonMasker | None, estimator: PoseEstimator
) -> tuple[Subject, list[str]]:
    """The square around the character, as the models are trained; the whole picture where nobody is found in it.

    Args:
        picture: ``(height, width, 3)`` uint8.
        known: the character's pose, one frame; ``None`` has it estimated.
        masker: finds the character's silhouette, which first guesses need. ``None`` goes without: a model by itself
            knows the character from its background (Animate Anyone 2, section 3), and the skeleton says where it is.

    Returns:
        The character, its pose in pixels of that square, and remarks for the user.
    """
    width, height = picture.shape[1], picture.shape[0]
    pose = estimator.estimate_picture(picture) if known is None else known.scaled_to((width, height))
    person = None if pose is None or masker is None else masker.mask([picture], pose).masks[0]
    box = None if person is None else bounding_box(person)
    if pose is not None and masker is None:
        box = body_box(pose)
    if pose is None or box is None:
        return Subject(picture, pose), ["character: nobody was found in the picture, which is taken as it is"]
    side = round(CLOSE_UP * max(span.stop - span.start for span in box))
    top, left = (round((span.start + span.stop - side) / 2) for span in box)
    rows = np.arange(top, top + side).clip(0, height - 1)  # beyond the picture its edge is drawn out
    columns = np.arange(left, left + side).clip(0, width - 1)
    moved = pose.keypoints - np.array([left, top], np.float32)
    inside = np.arange(top, top + side)[:, None] == rows[:, None]
    inside = inside & (np.arange(left, left + side) == columns)
    silhouette = None if person is None else person[rows][:, columns] & inside
    return Subject(picture[rows][:, columns], replace(pose, keypoints=moved, size=(side, side)), silhouette), []
