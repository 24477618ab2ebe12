"""novita-ai's AnimateAnyone: Moore's files; its Pose Guider has the paper's widths."""

from __future__ import annotations

from animate_anyone.interop.preset import Preset

GUIDER_WIDTHS = (16, 32, 64, 128)
PRESET = Preset(
    project="novita-ai/AnimateAnyone",
    beta_schedule="linear",
    other_schedule="its training says scaled_linear",
)
