"""The Python of docs/diffusers.md, run as it stands."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.utils import dynamic_modules_utils

from animate_anyone.models.shipped import shipped_folder
from animate_anyone.sampling.loading import load_pipeline
from conftest import REPOSITORY
from diffusers_cases import frames_of, inputs_for


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shipped_folder("puppet"), tmp_path / "FOLDER")
    page = (REPOSITORY / "docs/diffusers.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert len(blocks) == 5
    puppet = load_pipeline("puppet", "cpu")
    names: dict[str, Any] = inputs_for(puppet)
    want, other = frames_of(puppet, 0), frames_of(puppet, 1)
    for block in blocks:
        exec(block, names)
        if "frames" in names:
            assert np.array_equal(names.pop("frames"), want)
    assert "conditions" in capsys.readouterr().out
    assert all(map(np.array_equal, names["both"], (want, other)))
