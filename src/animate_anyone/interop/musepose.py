"""MusePose: Moore's files, longer windows; its position tables are not in the files."""

from __future__ import annotations

from animate_anyone.interop.preset import Preset

POSITIONS = 128
PRESET = Preset(
    project="MusePose",
    beta_schedule="scaled_linear",
    size=(512, 768),
    window=48,
    positions=POSITIONS,
)
