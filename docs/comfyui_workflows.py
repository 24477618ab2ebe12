"""Writes the example workflows of the ComfyUI pack, runs them, and makes their pictures of what comes out.

    python docs/comfyui_workflows.py                    # by what stands in for ComfyUI in the tests
    python docs/comfyui_workflows.py --engine FOLDER    # by ComfyUI itself, in that folder

``integrations/comfyui/example_workflows/NAME.json`` is what ComfyUI's page opens, ``api/NAME.json`` the same as a
program sends it, ``NAME.jpg`` the reference, the source video, what is understood of it and the result. The inputs are
those of the demo, drawn by the studio.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animate_anyone.media import contact_sheet, read_frames, read_picture
from animate_anyone.workflows.demo_inputs import write_demo_inputs

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "integrations" / "comfyui" / "example_workflows"
ENGINE = REPOSITORY / "tests" / "integrations" / "comfyui_engine.py"
SIDE, FRAMES = 256, 16
SHOWN = (0, 4, 8, 12, 15)

Prompt = dict[str, dict[str, Any]]
_SAMPLING = {
    **{"width": 0, "height": 0, "seed": 0, "steps": 0, "cfg": 0.0},
    **{"context_length": 0, "context_overlap": -1, "speed": "exact"},
}
_ALL_FRAMES = {"length": 0, "video_frame_offset": 0, "fps": 0.0}
_SEEN = {"pose_estimator": "mediapipe", "person": 0}


def _node(kind: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def _model(model: str) -> dict[str, Any]:
    placing = {"dtype": "auto", "offload": "none", "vae_tiling": False, "quantize": "none", "compile": False}
    return _node("AnimateAnyoneLoadModel", model=model, **placing)


def _save(node: str, prefix: str) -> dict[str, Any]:
    return _node("SaveVideo", video=[node, 0], filename_prefix=prefix, format="auto", codec="auto")


WORKFLOWS: dict[str, Prompt] = {
    "animate": {
        "1": _model("puppet"),
        "2": _node("LoadImage", "The character", image="character.png"),
        "3": _node("LoadVideo", "Somebody moving", file="dance.mp4"),
        "4": _node("AnimateAnyoneFindPoses", pose_video=["3", 0], **_SEEN, **_ALL_FRAMES),
        "5": _node("AnimateAnyoneRetargetPoses", pose_keypoints=["4", 0], reference_image=["2", 0], **_SEEN),
        "6": _node("AnimateAnyoneDrawPoses", pose_keypoints=["5", 0], style="scaled", width=0, height=0),
        "7": _node("PreviewImage", "The movement on the character's body", images=["6", 0]),
        "8": _node(
            "AnimateAnyoneAnimate",
            **{"model": ["1", 0], "reference_image": ["2", 0], "pose_video": ["3", 0], "pose_keypoints": ["4", 0]},
            **{"reference_pose": ["5", 1], **_SAMPLING, **_ALL_FRAMES, "align": True, "driving_kind": "auto"},
            **{**_SEEN, "first_guess": False},
        ),
        "9": _save("8", "animate_anyone/animate"),
        "10": _node(
            "AnimateAnyoneSavePoses",
            pose_keypoints=["4", 0],
            filename_prefix="animate_anyone/poses",
            format="npz",
            person=0,
        ),
    },
    "replace": {
        "1": _model("puppet-environment"),
        "2": _node("LoadImage", "The character", image="character.png"),
        "3": _node("LoadVideo", "Somebody in a place", file="scene.mp4"),
        "4": _node("AnimateAnyonePersonMask", background_video=["3", 0], masker="mediapipe", **_SEEN, **_ALL_FRAMES),
        "5": _node("MaskToImage", mask=["4", 0]),
        "6": _node("PreviewImage", "Who is replaced", images=["5", 0]),
        "7": _node(
            "AnimateAnyoneReplace",
            **{
                "model": ["1", 0],
                "reference_image": ["2", 0],
                "background_video": ["3", 0],
                "character_mask": ["4", 0],
            },
            **{"pose_keypoints": ["4", 1], **_SAMPLING, **_ALL_FRAMES, "keep_background": True, "crop": False},
            **{"feather": 4, "continuation": 0, "masker": "mediapipe", **_SEEN, "first_guess": False},
        ),
        "8": _save("7", "animate_anyone/replace"),
    },
}
# What ComfyUI's own nodes are, as far as the page wants to know it of them.
_NATIVE: dict[str, tuple[list[tuple[str, str, bool]], list[tuple[str, str]]]] = {
    "LoadImage": ([("image", "COMBO", True)], [("IMAGE", "IMAGE"), ("MASK", "MASK")]),
    "LoadVideo": ([("file", "COMBO", True)], [("VIDEO", "VIDEO")]),
    "PreviewImage": ([("images", "IMAGE", False)], []),
    "MaskToImage": ([("mask", "MASK", False)], [("IMAGE", "IMAGE")]),
    "SaveVideo": (
        [
            ("video", "VIDEO", False),
            ("filename_prefix", "STRING", True),
            ("format", "COMBO", True),
            ("codec", "COMBO", True),
        ],
        [],
    ),
}
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_PLACES = {
    "animate": [(0, 0), (0, 1), (0, 2), (1, 2), (2, 1), (3, 1), (4, 1), (3, 0), (4, 0), (2, 2)],
    "replace": [(0, 0), (0, 1), (0, 2), (1, 1), (2, 2), (3, 2), (2, 0), (3, 0)],
}
"""Column and row of each node, in the order of the prompt."""


def graph_of(name: str, info: dict[str, Any]) -> dict[str, Any]:
    """A prompt in the form that ComfyUI's page opens: with places, slots and links.

    Args:
        info: what the pack's nodes are, as the engine tells it.
    """
    prompt, links, nodes = WORKFLOWS[name], [], []
    made: dict[tuple[str, int], list[int]] = {}
    slots = {node: _slots(one["class_type"], info) for node, one in prompt.items()}
    for node, one in prompt.items():
        for place, (key, _, _) in enumerate(slots[node][0]):
            value = one["inputs"].get(key)
            if isinstance(value, list):
                before = slots[value[0]][1][value[1]][1]
                links.append([len(links) + 1, int(value[0]), value[1], int(node), place, before])
                made.setdefault((value[0], value[1]), []).append(len(links))
    for (node, one), (column, row) in zip(prompt.items(), _PLACES[name], strict=True):
        inputs, outputs = slots[node]
        into = {link[4]: link[0] for link in links if link[3] == int(node)}
        nodes.append(
            {
                "id": int(node),
                "type": one["class_type"],
                "pos": [column * 460, row * 380],
                "size": [400, 110 + 24 * len(inputs)],
                "flags": {},
                "order": int(node) - 1,
                "mode": 0,
                "inputs": [
                    {"name": key, "type": kind, "link": into.get(place)} | ({"widget": {"name": key}} if typed else {})
                    for place, (key, kind, typed) in enumerate(inputs)
                ],
                "outputs": [
                    {"name": key, "type": kind, "links": made.get((node, place))}
                    for place, (key, kind) in enumerate(outputs)
                ],
                "properties": {"Node name for S&R": one["class_type"]},
                "widgets_values": _typed(one, inputs),
                **({"title": one["_meta"]["title"]} if "_meta" in one else {}),
            }
        )
    return {
        **{"id": f"animate-anyone-{name}", "revision": 0, "last_node_id": len(nodes), "last_link_id": len(links)},
        **{"nodes": nodes, "links": links, "groups": [], "config": {}, "extra": {}, "version": 0.4},
    }


def _slots(kind: str, info: dict[str, Any]) -> tuple[list[tuple[str, str, bool]], list[tuple[str, str]]]:
    """Inputs ``(name, type, whether it is typed)``, those that must be given first, and outputs ``(name, type)``."""
    if kind in _NATIVE:
        return _NATIVE[kind]
    told = info[kind]
    inputs = sorted(told["inputs"], key=lambda one: one["optional"])
    return (
        [(one["id"], one["type"], one["type"] in _WIDGETS) for one in inputs],
        [(one["name"], one["type"]) for one in told["outputs"]],
    )


def _typed(one: dict[str, Any], inputs: list[tuple[str, str, bool]]) -> list[Any]:
    """The values of what is typed, in the order of the inputs, as the page keeps them."""
    values: list[Any] = []
    for key, _, typed in inputs:
        if typed:
            values.append(one["inputs"][key])
        if key == "seed":
            values.append("fixed")  # what the page does with it after each run
    return [*values, "image"] if one["class_type"] in ("LoadImage", "LoadVideo") else values  # the button to upload


def run(engine: str, base: Path, prompts: list[Prompt], **job: Any) -> dict[str, Any]:
    """What comes of prompts, see ``tests/integrations/comfyui_engine.py``."""
    command = [sys.executable, str(ENGINE), engine, str(base)]
    done = subprocess.run(command, input=json.dumps({"prompts": prompts, **job}), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{engine}: {done.stderr[-4000:]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def write_inputs(base: Path, side: int = SIDE, frames: int = FRAMES) -> None:
    """ComfyUI's folders below ``base``, with the demo's inputs for both workflows."""
    for folder in ("input", "output", "models", "temp", "custom_nodes"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    write_demo_inputs(base / "input", "replace", frames, side)
    (base / "input" / "dance.mp4").write_bytes((base / "input" / "scene.mp4").read_bytes())


def picture(base: Path, video: Path, seen: list[Path], source: str) -> Image.Image:
    """Source, what was understood and result, beside each other, with the reference at the left."""
    reference = read_picture(base / "input" / "character.png")
    rows = [
        [frame for _, frame in read_frames(base / "input" / source)],
        [np.asarray(Image.open(path).convert("RGB")) for path in seen],
        [frame for _, frame in read_frames(video)],
    ]
    blank = np.full_like(reference, 255)
    sheet = contact_sheet(
        [[reference if k == 1 else blank, *(row[number] for number in SHOWN)] for k, row in enumerate(rows)]
    )
    return Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="standin", help="standin, runtime, or ComfyUI's folder")
    engine = parser.parse_args().engine
    (EXAMPLES / "api").mkdir(parents=True, exist_ok=True)
    for name, prompt in WORKFLOWS.items():
        with tempfile.TemporaryDirectory() as place:
            base = Path(place)
            write_inputs(base)
            told = run(engine, base, [prompt])
            (result,) = told["results"]
            if result["error"]:
                raise RuntimeError(str(result["error"]))
            (EXAMPLES / "api" / f"{name}.json").write_text(json.dumps(prompt, indent=1) + "\n")
            (EXAMPLES / f"{name}.json").write_text(json.dumps(graph_of(name, told["info"]), indent=1) + "\n")
            saved = {node: shown["images"] for node, shown in result["outputs"].items() if "images" in shown}
            kinds = {node: prompt[node]["class_type"] for node in saved}
            (video,) = (saved[node][0] for node, kind in kinds.items() if kind == "SaveVideo")
            (seen,) = (saved[node] for node, kind in kinds.items() if kind == "PreviewImage")
            files = [base / one["type"] / one["subfolder"] / one["filename"] for one in (video, *seen)]
            shown = picture(base, files[0], files[1:], "dance.mp4" if name == "animate" else "scene.mp4")
            shown.save(EXAMPLES / f"{name}.jpg", quality=88)
            print(f"{name}: {', '.join(f'node {node}: {steps} steps' for node, steps in result['steps'].items())}")


if __name__ == "__main__":
    main()
