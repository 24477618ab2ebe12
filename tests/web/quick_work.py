"""Jobs that are done at once, or never, in place of those of the page: what a form says decides."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from animate_anyone.engines.job_process import Tell
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.web.names import FRAME, PREVIEW, RESULT

NEVER, BAD, DIES = 1, 2, 3
"""Seeds of jobs that never end, that find their input bad, and whose process dies."""
FRAMES = 8


def do(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """As ``web.work.do``: a small video, or what the seed says; whatever is uploaded is taken for sound."""
    folder, seed = Path(job["folder"]), job["settings"].get("seed", 0)
    picture = np.full((64, 48, 3), 90 + seed, np.uint8)
    tell({"stage": "denoise", "done": 1, "total": FRAMES})
    write_picture(folder / PREVIEW, picture)
    tell({"preview": True})
    character = folder / str(job.get("character"))
    if seed == BAD or (character.is_file() and character.read_bytes()[:3] == b"bad"):
        raise InputError("character.png: not a picture; give PNG <b>or</b> JPEG")
    if seed == DIES:
        raise SystemExit(1)
    while seed == NEVER:
        (folder / "half-written").write_text("x")
        time.sleep(0.05)
    if job["kind"] == "plan":
        return {"lines": ["clip: 8 frames"], "files": {}, "frames": FRAMES, "seconds": 0.1}
    if job["kind"] == "frame":
        write_picture(folder / FRAME, np.full((200, 100, 3), 90, np.uint8))
        found = {"people": [[10, 10, 50, 190], [60, 10, 90, 100]], "first": 0}
        return {"lines": [], "files": {"frame": FRAME}, "seconds": 0.1, **found}
    with VideoWriter(folder / RESULT, (48, 64), 12) as video:
        for _ in range(FRAMES):
            video.write(picture)
    (folder / f"{RESULT}.json").write_text("{}")
    files = {"video": RESULT, "settings": f"{RESULT}.json"}
    return {
        "lines": ["person found in 8 of 8 frames", "a <b>bold</b> line"],
        "files": files,
        "frames": FRAMES,
        "seconds": 0.4,
    }
