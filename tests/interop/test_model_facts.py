"""What is said of a model folder."""

from __future__ import annotations

from pathlib import Path

import tiny
from animate_anyone.interop.model_facts import describe


def test_a_model_of_animate_anyone_2(tmp_path: Path) -> None:
    tiny.environment_pipeline().save_pretrained(tmp_path / "model")
    lines = describe(str(tmp_path / "model"), digest=False)
    assert any(line.split()[:2] == ["pose_modulation", "PoseModulation"] for line in lines)
    assert any(line.startswith("  pose modulation:    layout paper") for line in lines)
