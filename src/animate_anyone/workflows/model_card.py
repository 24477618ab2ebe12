"""A model card for the Hub, of what a model folder itself holds; what the folder does not say, the card does not.

The card is a header of YAML and a part between two marks. Text that somebody has written outside the marks stays when
the card is written again, and so do keys of the header that are not the card's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.interop.catalog import shown_size
from animate_anyone.interop.model_facts import network_facts, setting_facts
from animate_anyone.media import check_writable, whole_file
from animate_anyone.models.diffusers_files import MODULAR_INDEX, PIPELINE
from animate_anyone.models.folder import AA2, METHODS, class_name, model_folder
from animate_anyone.models.shipped import INDEX, SHIPPED
from animate_anyone.models.weight_files import first_line, read_settings

BEGIN, END = "<!-- animate-anyone models card: begin -->", "<!-- animate-anyone models card: end -->"
HISTORY, FIGURES = "training.json", "evaluation.json"
"""Records of a folder: how it was trained, and what ``evaluate --json`` measured."""
PAPERS = {"Animate Anyone": "2311.17117", "Animate Anyone 2": "2502.06145"}


def write_card(
    model: str | Path, output: Path | None = None, license: str | None = None, base_model: str | None = None
) -> list[str]:
    """Write the card of a model folder.

    Args:
        model: a shipped model's name or a model folder.
        output: the file; ``None``: ``README.md`` in the folder.
        license, base_model: of the header, as the Hub names them; what the file has already stays where ``None``.

    Returns:
        Lines that say what was written, and what is still missing.

    Raises:
        InputError: no model, a damaged one, or a file is there that is not a card of this.
    """
    folder = model_folder(model)
    file = folder / "README.md" if output is None else output
    before = _read(file)
    if before is not None and not (before.count(BEGIN) == before.count(END) == 1 and BEGIN in before.split(END)[0]):
        raise InputError(
            f"{file}: is there and holds no card of this command; give another name with -o, or put the lines "
            f"`{BEGIN}` and `{END}` where the card shall stand in it"
        )
    header, text = _divided(file, before or "")
    given = {"license": license, "base_model": base_model}
    header |= {name: value for name, value in given.items() if value is not None}
    check_writable(file, (".md",))
    content = model_card(folder, str(model) if str(model) in SHIPPED else folder.resolve().name, header, text)
    with whole_file(file) as part:
        part.write_text(content, encoding="utf-8")
    lines = [f"{file}: written"]
    if "license" not in header:
        lines.append("it names no licence, since the folder does not say which; type it: --license apache-2.0")
    return lines


def model_card(folder: Path, name: str, header: Mapping[str, Any], text: str) -> str:
    """The card of a model folder, as Markdown.

    Args:
        folder: looked through, and refused as ``models show`` refuses it.
        name: what the model is called.
        header: what an older card says, or its author; keys that the folder determines are set.
        text: of an older card, with both marks in it; empty: there is none.
    """
    from huggingface_hub import ModelCardData

    method, verb = METHODS[class_name(folder)]
    tags = [*dict.fromkeys([*(header.get("tags") or ()), *_tags(method)])]
    own = {"library_name": "diffusers", "pipeline_tag": "image-to-video", "tags": tags}
    data = ModelCardData(**{**header, **own})
    card = "\n\n".join([BEGIN, *_sections(folder, name, method, verb), END])
    text = text or f"# {name}\n\n{BEGIN}{END}\n"
    before, _, rest = text.partition(BEGIN)
    return f"---\n{data.to_yaml().strip()}\n---\n\n{before}{card}{rest.partition(END)[2]}"


def _sections(folder: Path, name: str, method: str, verb: str) -> list[str]:
    index, history = read_settings(folder / INDEX), _history(folder)
    return [
        "## The folder",
        f"A model of {method} ([arXiv {PAPERS[method]}](https://arxiv.org/abs/{PAPERS[method]})), a folder in the form "
        "of diffusers. What stands from here to the end of this part was read from the folder's own files.",
        "## Networks",
        *_networks(folder),
        "## Settings",
        _table(("setting", "value"), [(what, value) for what, value in setting_facts(folder).items()]),
        "## Training",
        _training(history),
        *_figures(folder),
        "## How to use it",
        *_use(folder, name, verb),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(index, folder, history)),
    ]


def _networks(folder: Path) -> list[str]:
    networks = network_facts(folder)
    rows: list[tuple[Any, ...]] = [
        (f"`{n.part}`", f"`{n.kind}`", f"{n.weights / 1e6:.2f}", n.dtypes, shown_size(n.size)) for n in networks
    ]
    rows.append(
        ("in all", "", f"{sum(n.weights for n in networks) / 1e6:.2f}", "", shown_size(sum(n.size for n in networks)))
    )
    return [_table(("network", "class", "million parameters", "number type", "file size"), rows)]


def _training(history: Sequence[Mapping[str, Any]] | None) -> str:
    if history is None:
        return f"The folder has no `{HISTORY}`: it does not say how the model was trained."
    rows = []
    for stage in history:
        recipe = stage["recipe"]
        data, optimizer = recipe["data"], recipe["optimizer"]
        batch = f"{recipe['batch']} x {recipe['accumulate']}" if recipe["accumulate"] != 1 else recipe["batch"]
        seen = "videos" if data["source"] == "videos" else "the studio's synthetic clips"
        if data.get("studio_share"):
            seen += f", {data['studio_share']:.0%} the studio's"
        if data["source"] == "studio":
            seen += f" ({data.get('domain', 'plain')} domain), {data['clips']}"
        rows.append((recipe["stage"], stage["steps_done"], batch, optimizer["lr"], f"{data['size']}", seen))
    first = history[0]["recipe"].get("init")
    start = "The first stage started from random weights."
    if first is not None:
        start = "What the first stage started from is not in this record."
    titles = ("stage", "steps", "clips a step", "learning rate", "size, pixels", "data")
    return f"{_table(titles, rows)}\n\n{start} `{HISTORY}` holds every setting of every stage as it ran."


def _figures(folder: Path) -> list[str]:
    """What ``evaluate --json`` left in the folder; nothing where it left nothing."""
    from animate_anyone.evaluation.environment_suite import environment_table
    from animate_anyone.evaluation.suites import suite_table
    from animate_anyone.evaluation.video_metrics import video_table

    file = folder / FIGURES
    if not file.exists():
        return []
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        suite = report.get("suite")
        if suite is None:
            what, table = "`animate-anyone evaluate --generated`", video_table(report)
        else:
            about = report["settings"]
            told = [f"{key} {about[key]}" for key in ("characters", "scenes", "frames") if key in about]
            told += [f"{key} {about[key]}" for key in ("steps", "guidance", "seed")]
            what = f"`animate-anyone evaluate --suite {suite}`: {', '.join(told)}"
            table = (environment_table if suite == "puppet-environment" else suite_table)(report)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = first_line(error)
        raise InputError(f"{file}: is nothing that evaluate --json wrote ({why}); move it away") from None
    return ["## Figures", f"{what} (`{FIGURES}`).", f"```text\n{table}\n```"]


def _use(folder: Path, name: str, verb: str) -> list[str]:
    place = name if name in SHIPPED else f"PATH/TO/{name}"
    driven = "--driving dance.mp4" if verb == "animate" else "--video street.mp4"
    code = "from animate_anyone import "
    if verb == "animate":
        code += f'Settings, animate\n\nanimate("character.png", "dance.mp4", "out.mp4", Settings(model="{place}"))'
    else:
        code += "ReplaceSettings, replace\n\n"
        code += f'replace("character.png", "street.mp4", "out.mp4", ReplaceSettings(model="{place}"))'
    parts = [
        "With the package `animate-anyone`, from the command line:",
        f"```sh\nanimate-anyone {verb} character.png {driven} -o out.mp4 --model {place}\n```",
        "From Python:",
        f"```python\n{code}\n```",
    ]
    at = f'folder = "PATH/TO/{name}"\n'
    if (folder / PIPELINE).is_file():
        load = f'from_pretrained(folder, custom_pipeline="{Path(PIPELINE).stem}", trust_remote_code=True)'
        code = f"from diffusers import DiffusionPipeline\n\n{at}pipeline = DiffusionPipeline.{load}"
        parts += ["As a pipeline of diffusers:", f"```python\n{code}\n```"]
    if (folder / MODULAR_INDEX).is_file():
        load = "from_pretrained(folder, trust_remote_code=True)\npipeline.load_components()"
        code = f"from diffusers import ModularPipeline\n\n{at}pipeline = ModularPipeline.{load}"
        parts += ["As blocks of Modular Diffusers (encode, denoise, decode):", f"```python\n{code}\n```"]
    return parts


def _limits(index: Mapping[str, Any], folder: Path, history: Sequence[Mapping[str, Any]] | None) -> list[str]:
    unet = read_settings(folder / "denoising_unet" / "config.json")
    size = "x".join(map(str, index.get("size", ["?"])))
    lines = [
        f"Trained at {size} pixels; poses are drawn in the style `{index.get('skeleton_style')}` and no other.",
        f"Sampled with {index.get('num_inference_steps')} steps and guidance {index.get('guidance_scale')} by default.",
    ]
    if unet.get("use_motion_module", True):
        lines.append(
            f"At most {unet.get('motion_max_seq_length')} frames are denoised together; longer clips in windows."
        )
    else:
        lines.append("It has no temporal layers.")
    if index.get("carried_reference"):
        lines.append(
            "It changes a first guess, the reference moved into every pose by geometry; much of what its results show "
            "is that guess."
        )
    if {stage["recipe"]["data"]["source"] for stage in history or ()} == {"studio"}:
        known = history is not None and history[0]["recipe"].get("init") is None
        end = "photographs are not what it knows" if known else "what it started from is not in the record"
        lines.append(f"By its record it was trained on the studio's synthetic characters alone; {end}.")
    if index.get("_class_name") == AA2:
        for option, what in (("uses_objects", "objects"), ("uses_depth", "structured depth")):
            if not index.get(option, True):
                lines.append(f"It was trained without {what}.")
    return lines


def _tags(method: str) -> list[str]:
    kind = "animate-anyone-2" if method == "Animate Anyone 2" else "animate-anyone"
    return [kind, "human-animation", "pose-guided", "safetensors", f"arxiv:{PAPERS[method]}"]


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _history(folder: Path) -> list[dict[str, Any]] | None:
    """The stages of ``training.json``; ``None`` where there is none."""
    file = folder / HISTORY
    if not file.exists():
        return None
    try:
        stages = json.loads(file.read_text(encoding="utf-8"))
        for stage in stages:
            recipe = stage["recipe"]
            _ = stage["steps_done"], recipe["stage"], recipe["batch"], recipe["accumulate"], recipe["optimizer"]["lr"]
            _ = recipe["data"]["source"], recipe["data"]["size"], recipe["data"]["clips"]
        _ = stages[0]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{file}: is no record of training ({first_line(error)}); move it away") from None
    return list(stages)


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({first_line(error)}); give another name with -o") from None


def _divided(file: Path, content: str) -> tuple[dict[str, Any], str]:
    """Header and text of an older card."""
    from huggingface_hub import ModelCard

    if not content:
        return {}, ""
    try:
        card = ModelCard(content)
        return card.data.to_dict(), card.text.lstrip("\n")
    except Exception as error:  # whatever reading YAML raises
        raise InputError(f"{file}: its header cannot be read ({first_line(error)}); mend it, or use -o") from None
