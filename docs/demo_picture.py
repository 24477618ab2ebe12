"""Makes ``docs/demo.png`` from what ``make demo`` leaves in ``out/``: the character, the skeletons, the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.media import contact_sheet, read_frames, read_picture, write_picture
from animate_anyone.structures import Picture, PoseSequence

FRAMES, SIDE = 6, 224
OUT, DOCS = Path("out"), Path(__file__).parent


def main() -> None:
    poses = PoseSequence.load(OUT / "dance.npz")
    chosen = np.linspace(0, len(poses) - 1, FRAMES).astype(int)
    result = [frame for _, frame in read_frames(OUT / "demo.mp4")]
    drawn = draw_pose(poses[chosen], (SIDE, SIDE), style="scaled")
    character = scaled(read_picture(OUT / "character.png"))
    rows = [[character, *drawn], [character, *(scaled(result[i]) for i in chosen)]]
    write_picture(DOCS / "demo.png", contact_sheet(rows, ["the dance", "the character, dancing it"]))


def scaled(picture: Picture) -> Picture:
    """A square picture at the sheet's size."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
