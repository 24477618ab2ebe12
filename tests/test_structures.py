"""Records that rooms exchange."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.structures import PoseSequence
from people import person


def test_a_damaged_header_of_an_array_is_told_in_one_line(tmp_path: Path) -> None:
    """Its length runs on into the values, which NumPy's parser then reads."""
    person(2, (64, 64)).save(tmp_path / "good.npz")
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "bad.npz", "w") as bad:
        for name in good.namelist():
            data = bytearray(good.read(name))
            if name == "keypoints.npy":
                assert np.load(io.BytesIO(bytes(data))).shape == (2, 128, 2)
                data[8:10] = (int.from_bytes(data[8:10], "little") + 60).to_bytes(2, "little")
                data[128:188] = b"\x06(" * 30
            bad.writestr(name, bytes(data))
    with pytest.raises(InputError, match=r"bad\.npz: not a pose file"):
        PoseSequence.load(tmp_path / "bad.npz")
