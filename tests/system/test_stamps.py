"""A file or a folder that has changed has another stamp."""

from __future__ import annotations

import os
from pathlib import Path

from animate_anyone.system.stamps import stamp


def test_stamps(tmp_path: Path) -> None:
    file = tmp_path / "in" / "deep" / "file"
    assert stamp(file) == []
    file.parent.mkdir(parents=True)
    assert stamp(tmp_path) == [0, 0, 0]
    file.write_bytes(b"123")
    os.utime(file, ns=(5, 7))
    assert stamp(file) == stamp(tmp_path) == [3, 7, 1]
    (tmp_path / "link").symlink_to("nowhere")
    assert stamp(tmp_path) == [3, 7, 1]
    (tmp_path / "other").write_bytes(b"12")
    os.utime(tmp_path / "other", ns=(5, 6))
    assert stamp(tmp_path) == [5, 7, 2]
