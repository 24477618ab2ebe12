"""Estimators by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from animate_anyone.errors import InputError
from animate_anyone.perception import ESTIMATORS, load_estimator


def test_unknown_names_and_options_list_the_ones_there_are() -> None:
    with pytest.raises(InputError, match="no pose estimator 'openpose'; there are: mediapipe, rtmlib"):
        load_estimator("openpose")
    with pytest.raises(InputError, match="no option 'speed'; there are: mode"):
        load_estimator("rtmlib", speed=3)
    assert ESTIMATORS == ("mediapipe", "rtmlib")


def test_a_missing_package_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    with pytest.raises(InputError, match="rtmlib"):
        load_estimator("rtmlib")


def test_importing_perception_loads_no_network() -> None:
    script = (
        "import sys, animate_anyone.perception; print([m for m in ('mediapipe', 'rtmlib', 'cv2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
