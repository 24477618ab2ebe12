"""What is asked of the clips of a data set; a digest of it tells whether a clip was made with these settings."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path

from animate_anyone.errors import InputError, shortened
from animate_anyone.perception import ESTIMATORS, check_estimator
from animate_anyone.perception.joint_depth import check_depth
from animate_anyone.perception.objects.asking import ASK
from animate_anyone.structures import FASTEST

VERSION = 2
"""Of the clips: other code that makes other clips from the same settings has another number."""
_LATER = ("rtmlib_mode", "rtmlib_detector", "rtmlib_pose", "depth")  # clips of before were made with their defaults


@dataclass(frozen=True)
class PrepareSettings:
    """How clips are cut and which are kept.

    Attributes:
        fps: frames per second of the clips; slower videos keep their own rate.
        shortest, longest: seconds of a clip.
        min_height: pixels of the video that the person is high at least, in half of the frames.
        max_side: pixels of the longer side of a clip at most; larger ones are scaled down.
        masks: also write the person's masks.
        frames: which of each video are used; ``stop`` ``None``: to its end.
        pose_estimator: a name in :data:`ESTIMATORS`.
        objects: names of things that the person may hold, with commas between, whose masks are also written.
        object_weights: a folder with Grounding DINO, which finds them.
        device: where its networks compute: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; clips are taken for the same.
        rtmlib_mode, rtmlib_detector, rtmlib_pose: as in :class:`~animate_anyone.perception.pose.rtmlib.RtmlibPose`.
        depth: a folder with a network that sees how far limbs are; ``None``: the pose estimator says so, if it can.

    Raises:
        InputError: a value that is not allowed.
    """

    fps: Fraction = Fraction(24)
    shortest: float = 2.0
    longest: float = 10.0
    min_height: int = 128
    max_side: int = 1024
    masks: bool = False
    pose_estimator: str = "mediapipe"
    frames: tuple[int, int | None] = (0, None)
    objects: str | None = None
    object_weights: str | None = None
    device: str = "cpu"
    rtmlib_mode: str = "balanced"
    rtmlib_detector: str | None = None
    rtmlib_pose: str | None = None
    depth: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= FASTEST:
            raise InputError(f"--fps {self.fps}: frames per second of clips lie between 1 and {FASTEST}; give e.g. 24")
        if not (self.shortest > 0 and 2 * self.shortest <= self.longest <= 600):  # so that halves are long enough
            raise InputError(
                f"--seconds {self.shortest:g}:{self.longest:g}: the longest clip must last at least twice as long as "
                "the shortest, at most 600 s; give e.g. 2:10"
            )
        if round(self.shortest * float(self.fps)) < 2:
            raise InputError(f"--seconds {self.shortest:g}:{self.longest:g}: a clip of one frame; give more seconds")
        if self.min_height < 16:
            raise InputError(f"--min-height {self.min_height}: a person of so few pixels has no pose; give 16 or more")
        first, stop = self.frames
        if first < 0 or (stop is not None and stop <= first):
            raise InputError(f"--frames {first}:{stop}: give A:B with A below B, such as 0:240")
        if not 64 <= self.max_side <= 8192:
            raise InputError(f"--max-side {self.max_side}: the longer side of a clip lies between 64 and 8192 pixels")
        if self.pose_estimator not in ESTIMATORS:
            raise InputError(
                f"--pose-estimator {self.pose_estimator}: there is no such estimator; give {' or '.join(ESTIMATORS)}"
            )
        check_estimator(self.pose_estimator, self.rtmlib_mode, self.rtmlib_detector, self.rtmlib_pose)
        if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", self.device):
            raise InputError(f"--device {shortened(self.device)}: give cpu, cuda, cuda:N or mps")
        on_cpu = self.pose_estimator == "mediapipe" and self.objects is None and self.depth is None
        if self.device != "cpu" and on_cpu:
            raise InputError(
                f"--device {self.device}: mediapipe computes on the CPU alone; give --pose-estimator rtmlib with it"
            )
        if self.depth is not None:
            check_depth(Path(self.depth))
        if self.objects == ASK:
            raise InputError("--objects ask: replace asks, for a clip at a time; give names, such as ball,bat")
        if self.objects is not None and not all(name.strip() for name in self.objects.split(",")):
            raise InputError(f"--objects {shortened(self.objects)}: give names with commas between, such as ball,bat")
        if self.objects is not None and self.object_weights is None:
            raise InputError("--objects: Grounding DINO finds them; give its folder: --object-weights FOLDER")

    @property
    def digest(self) -> str:
        """Of the settings but for ``device``, and :data:`VERSION`, hexadecimal; later settings count where given."""
        usual = {field.name: field.default for field in fields(self) if field.name in _LATER}
        asked = {n: v for n, v in asdict(self).items() if n != "device" and not (n in usual and v == usual[n])}
        text = json.dumps({"version": VERSION} | asked, default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def num_frames(self, fps: Fraction) -> int:
        """Frames of the shortest clip."""
        return max(2, round(self.shortest * float(fps)))

    def num_pieces(self, seconds: float) -> int:
        """Into how many clips of equal length a shot is divided."""
        return max(1, math.ceil(seconds / self.longest - 1e-6))
