"""Makes ``docs/gallery.md`` and its pictures from a model, the studio and, where they are at hand, real clips.

python docs/gallery_pictures.py [--model puppet] [--characters 24] [--clips FOLDER]

What is shown is chosen by rules and figures, never by eye; all figures in the text come from here. ``--clips`` names a
folder with ``dance.mp4``: it is measured anew (``benchmarks/self_reenactment.py``), and pictures of other real clips
there go to ``out/gallery``, beside the repository's files and not among them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gallery_cases import (
    HANDS,
    NEW,
    UNPATTERNED,
    Case,
    Picture,
    by_region,
    detail,
    faces_then_turns,
    facing,
    find,
    hand_row,
    label,
    mean,
    pair_row,
    run,
    shows_hands,
    spread,
    suite_clip,
)
from PIL import Image

from animate_anyone.cli.demo import demo_clips
from animate_anyone.cli.options import shown_progress
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.evaluation.suites import CHARACTERS, FRAMES
from animate_anyone.media import check_writable, contact_sheet, read_frames, read_picture, whole_file, write_picture
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.workflows import animate as workflow

DOCS = Path(__file__).resolve().parent
PICTURES, BENCHMARKS = DOCS / "gallery", DOCS.parent / "benchmarks"
MEASURED = BENCHMARKS / "results" / "self_reenactment.json"
LONG = 96  # frames of the long clip
SIDE = (256, 256)  # of what models with a first guess make here; as large as asked for, as `animate` makes it
SHEET = 1600  # pixels: widest picture of the page


def show(name: str, what: str, rows: dict[str, list[Picture]]) -> str:
    """Write rows, by the lines above them, as ``gallery/NAME.jpg``; the page's line for it."""
    sheet = Image.fromarray(contact_sheet(list(rows.values()), list(rows)))
    sheet.thumbnail((SHEET, 10 * SHEET), Image.Resampling.LANCZOS)
    with whole_file(check_writable(PICTURES / f"{name}.jpg")) as part:
        sheet.save(part, format="JPEG", quality=88)
    return f"![{what}](gallery/{name}.jpg)"


def demo(model: str) -> list[str]:
    """Paragraphs: a character dances another one's dance, as in `animate-anyone demo`; with the first guess alone."""
    character, dance = demo_clips()
    with tempfile.TemporaryDirectory() as folder:
        picture, poses, video = (Path(folder) / name for name in ("character.png", "dance.npz", "demo.mp4"))
        write_picture(picture, character.frames[0].cpu().numpy())
        dance.pose.save(poses)
        results = []
        for alone in (True, False):
            settings = workflow.Settings(model=model, first_guess=alone)
            workflow.animate(picture, poses, video, settings, character_pose=character.pose)
            results.append([frame for _, frame in read_frames(video)])
    frames, side = spread(len(results[0]), 6), (results[0][0].shape[1], results[0][0].shape[0])
    first = np.asarray(Image.fromarray(character.frames[0].cpu().numpy()).resize(side))
    names = ("the first guess, by geometry alone", "with what the networks change of it")
    rows = {"the dance": [first, *draw_pose(dance.pose[frames], side, style="scaled")]}
    rows |= {name: [first, *(made[n] for n in frames)] for name, made in zip(names, results, strict=True)}
    return [
        "## Somebody else's dance",
        show("demo", "A character dances another one's dance", rows),
        "What `animate-anyone demo` makes: the skeleton of one character put on the body of another. There is no truth "
        "to compare with.",
    ]


def characters_never_seen(suite: list[Case]) -> list[str]:
    """Paragraphs: the suite, and where the model is good and where not. Writes the README's picture too."""
    from machine import table

    number, ranked = len(suite), sorted(suite, key=lambda case: -case.person()[0])
    three = {"best": ranked[0], "median": ranked[(number - 1) // 2], "worst": ranked[-1]}
    show("best_median_worst", "", {label(c, f"{name}, "): pair_row(c, spread(FRAMES)) for name, c in three.items()})
    places = spread(number, 6)
    six = {label(ranked[k], f"place {k + 1} of {number}, "): pair_row(ranked[k], spread(FRAMES)) for k in places}
    model, copied = np.mean([case.person() for case in suite], axis=0)
    carried = ""
    if all(case.carried is not None for case in suite):
        warped = [replace(case, result=np.stack(list(case.carried or ()))).person()[0] for case in suite]
        carried = f", the first guess by itself {np.mean(warped):.1f} dB"
    ahead = sum(case.person()[0] > case.person()[1] for case in suite)
    printed = [case for case in suite if case.clip.description["top"] not in UNPATTERNED][:4]
    tops = {f"{label(case)}, {case.clip.description['top']}": pair_row(case, spread(FRAMES)) for case in printed}
    return [
        "## Characters it never saw",
        show("characters", "Six characters, from the best to the worst", six),
        f"{number} held-out synthetic characters, ordered by PSNR over the person; shown are places "
        f"{', '.join(str(k + 1) for k in places)}. Mean {model:.1f} dB, repeating the reference {copied:.1f} dB"
        f"{carried}; the model is ahead with {ahead} of {number}. Each is driven by its own movement; the reference is "
        "a later frame of the same clip.",
        "## Where it is good and where it is not",
        table(["over", "frames", "model, dB", "copy, dB", "above", "detail"], by_region(suite)),
        "The same clips. PSNR over the region that the truth's labels name, means over frames; *detail* is the "
        "result's mean brightness gradient over the truth's in that region (100%: as sharp; noise counts as detail "
        "too).",
        "## Patterned clothes",
        show("patterns", "Patterned tops", tops),
        f"The first {len(printed)} of the same characters whose top has a pattern.",
    ]


def turned_away(pipeline: AnimateAnyonePipeline, size: tuple[int, int]) -> list[str]:
    """Paragraphs: the reference shows the face, the frames do not."""
    clips = [clip for _, clip in zip(range(3), find(size, "turn", faces_then_turns), strict=False)]
    cases = [run(pipeline, clip, int(np.argmax(facing(clip))), clip.seed) for clip in clips]
    backs = [np.flatnonzero(case.away) for case in cases]
    rows = {label(case): pair_row(case, k[spread(len(k))]) for case, k in zip(cases, backs, strict=True)}
    model, copied = mean(cases, [case.region() & case.away[:, None, None] for case in cases])
    return [
        "## Turned away",
        show("turned", "Characters seen from behind", rows),
        f"The first {len(cases)} characters from seed {NEW} on that turn round; the reference shows the face, the "
        f"frames shown do not. Over the person in all such frames {model:.1f} dB, repeating the reference "
        f"{copied:.1f} dB. The back of a head, or an emblem on a back, is nowhere in the reference.",
    ]


def hands(pipeline: AnimateAnyonePipeline, size: tuple[int, int]) -> list[str]:
    """Paragraphs: hands, enlarged."""
    clips = [clip for _, clip in zip(range(3), find(size, "wave", shows_hands), strict=False)]
    cases = [run(pipeline, clip, 0, clip.seed) for clip in clips]
    regions = [case.region(*HANDS) for case in cases]
    rows = {f"character {c.clip.seed}: right hand, left hand, twice": hand_row(c, spread(FRAMES - 1, 2)) for c in cases}
    model, copied = mean(cases, regions)
    left = np.mean([detail(case, region) for case, region in zip(cases, regions, strict=True)])
    return [
        "## Hands",
        show("hands", "Hands, truth and result, enlarged", rows),
        f"The first {len(cases)} that wave, from seed {NEW} on, with both hands in view; pairs of truth and result, "
        f"enlarged. Over the hands' pixels {model:.1f} dB, repeating the reference {copied:.1f} dB; detail {left:.0%}.",
    ]


def long_clip(pipeline: AnimateAnyonePipeline, size: tuple[int, int]) -> list[str]:
    """Paragraphs: a clip of several windows; whether it drifts and flickers."""
    clip = sample_clip(NEW, split="held_out", num_frames=LONG + 1, size=size, motion="dance")
    case = run(pipeline, clip, LONG, NEW)
    quarters = [", ".join(f"{np.nanmean(q):.1f}" for q in np.split(each, 4)) for each in case.psnr(case.region())]
    frames, person = spread(LONG, 8), case.region()
    rows = {"truth": [case.first, *case.truth[frames]], label(case): [case.first, *case.result[frames]]}
    still = ~(person[1:] | person[:-1])
    flicker = [
        float(np.abs(np.diff(v.astype(float), axis=0)).mean(-1)[still].mean()) for v in (case.result, case.truth)
    ]
    window, overlap = pipeline.config["window"], pipeline.config["overlap"]
    return [
        "## A long clip",
        show("long", "A long clip", rows),
        f"{LONG} frames in windows of {window} that share {overlap}; the reference comes after the last. Person PSNR "
        f"by quarters {quarters[0]} dB, repeating the reference {quarters[1]} dB. Where nobody is, pixels change by "
        f"{flicker[0]:.2f} of 255 from frame to frame (in the truth by {flicker[1]:.2f}): flicker.",
    ]


def real_pictures(clips: Path, model: str, folder: Path) -> None:
    """Real pictures driven by real clips, into ``folder``: no truth is known, so nothing is measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, video in (("character_1.png", "dance.mp4"), ("character_2.png", "dance.mp4"),
                           ("street_character.jpeg", "street_scene.mp4")):  # fmt: skip
        if not (clips / picture).is_file() or not (clips / video).is_file():
            print(f"{clips}: no {picture} or no {video}; left out")
            continue
        made = folder / f"{Path(picture).stem}.mp4"
        try:
            workflow.animate(clips / picture, clips / video, made, workflow.Settings(model=model, frames=slice(0, 48)))
        except InputError as error:
            print(f"{picture}: {error}")
            continue
        frames = [frame for _, frame in read_frames(made)]
        character = Image.fromarray(read_picture(clips / picture))
        character.thumbnail((frames[0].shape[1], frames[0].shape[0]))
        write_picture(made.with_suffix(".jpg"),
                      contact_sheet([[np.asarray(character), *(frames[n] for n in spread(48, 8))]]))  # fmt: skip


def real_clip(weights: str) -> list[str]:
    """What the page says of the real clip, from the last measurement's file; its pictures are somebody else's."""
    import self_reenactment

    if not MEASURED.is_file():
        print("no measurement of a real clip; give --clips FOLDER")
        return []
    report = json.loads(MEASURED.read_text())
    if report["weights"] != weights:
        print(f"the real clip was measured with weights {report['weights']}, not {weights}; give --clips FOLDER")
    return [
        "## A real clip, played back by itself",
        "The first frame is the character; the clip's poses, as the bundled estimator finds them, drive it; its own "
        f"frames are the truth (weights {report['weights']}, {report['size'][0]}x{report['size'][1]}). [How it is "
        "measured](../benchmarks/results/self_reenactment.md). The clip is for research only, so no frame of it is "
        "shown here.",
        self_reenactment.figures_table(report),
    ]


def make(model: str, characters: int) -> None:
    """Make the pictures and the page."""
    import self_reenactment

    pipeline, weights = load_pipeline(model), self_reenactment.digest(model)
    size = SIDE if pipeline.config["carried_reference"] else tuple(pipeline.config["size"])
    steps = pipeline.config["num_inference_steps"]
    suite = [run(pipeline, *suite_clip(seed, size), seed) for seed in range(characters)]
    page = [
        "# Gallery",
        "What the shipped model makes, failures beside successes. Everything on this page, figures included, is "
        "written by `python docs/gallery_pictures.py`; what is shown is chosen by rules and figures, not by eye. Model "
        f"`{model}` (weights {weights}), {steps} step{'' if steps == 1 else 's'}, one seed each, at "
        f"{size[0]}x{size[1]}: "
        "[the first guess](first_guess.md) at that size, and what the networks change of it on their grid. "
        "In rows of pairs the reference comes first, then truth and result side by side; PSNR is over the person, in "
        "brackets that of repeating the reference.",
        "## What fails, in short",
        "- **Hands** keep the fingers of the picture: they do not bend.\n"
        "- **Haze**: where a limb moves far the networks lay a soft veil, on it and where it was.\n"
        "- **Faces** keep their look: a head that turns does not show its other side, a mouth does not open.\n"
        "- **Views that the picture does not show** (a back, a side) are the front's mirror image, the face covered.\n"
        "- **Limbs that point at the camera** in the picture, or lie on the body, are cut out badly.\n"
        "- **Loose clothes** move with the thighs and do not swing.",
        *characters_never_seen(suite),
        *demo(model),
        *turned_away(pipeline, size),
        *hands(pipeline, size),
        *long_clip(pipeline, size),
        *real_clip(weights),
        "## Real pictures",
        "Pictures of real or drawn characters moved by real clips are not kept here: they are other people's. `python "
        "docs/gallery_pictures.py --clips FOLDER` makes such pictures in `out/gallery`.",
    ]
    with whole_file(DOCS / "gallery.md") as part:
        part.write_text("\n\n".join(page) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="puppet", help="a shipped model's name or a model folder")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="of the suite, at least 6")
    parser.add_argument("--clips", type=Path, help="a folder with dance.mp4, and other real clips and pictures")
    asked: Any = parser.parse_args()
    if asked.characters < 6:
        parser.error(f"--characters {asked.characters}: give at least 6")
    sys.path.insert(0, str(BENCHMARKS))
    import self_reenactment

    try:
        PICTURES.mkdir(exist_ok=True)
        if asked.clips is not None:
            self_reenactment.run([str(asked.clips / "dance.mp4"), "--model", asked.model, "--json", str(MEASURED)])
        with shown_progress():
            make(asked.model, asked.characters)
            if asked.clips is not None:
                real_pictures(asked.clips, asked.model, DOCS.parent / "out" / "gallery")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
