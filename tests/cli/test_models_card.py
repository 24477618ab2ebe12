"""``animate-anyone models card``: what the card says is what the folder holds; and ``models diffusers``."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import Shell
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import tiny
from animate_anyone.models.folder import networks_of
from animate_anyone.models.shipped import SHIPPED, shipped_folder
from animate_anyone.workflows.model_card import BEGIN, END, model_card
from diffusers_cases import weights


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def figures(make_once: Any) -> Path:
    """What ``evaluate --json`` writes of a character."""

    def make(folder: Path) -> None:
        from animate_anyone.evaluation.suites import evaluate_puppet
        from animate_anyone.sampling.loading import load_pipeline

        report, _ = evaluate_puppet(load_pipeline("puppet", "cpu"), characters=1, long_clips=0, side=64)
        (folder / "evaluation.json").write_text(json.dumps({"model_name": "puppet", **report}))

    return Path(make_once("card_figures", make)) / "evaluation.json"


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    part = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip(" |`") for cell in line] for line in lines[2:]]


def test_of_a_folder_without_records(shell: Shell, model: Path) -> None:
    result = shell("models", "card", "model", "--license", "mit")
    assert (result.status, result.out, result.err) == (0, "model/README.md: written\n", "")
    card = ModelCard((model / "README.md").read_text())
    assert card.data.to_dict() == {
        "library_name": "diffusers",
        "license": "mit",
        "pipeline_tag": "image-to-video",
        "tags": ["animate-anyone", "human-animation", "pose-guided", "safetensors", "arxiv:2311.17117"],
    }
    pipeline = tiny.pipeline()
    networks = {row[0]: row for row in rows(card.text, "Networks")}
    total = 0
    for part in networks_of(model):
        count = sum(t.numel() for f in (model / part).glob("*.safetensors") for t in load_file(f).values())
        total += count
        assert networks[part][1:4] == [type(getattr(pipeline, part)).__name__, f"{count / 1e6:.2f}", "float32"]
    assert networks["in all"][2] == f"{total / 1e6:.2f}"
    settings = dict(rows(card.text, "Settings"))
    assert (settings["size"], settings["skeleton style"], settings["guidance"]) == ("64x64", "scaled", "2.0")
    assert (settings["windows"], settings["num_inference_steps"]) == ("8 frames, overlap 2", "20")
    assert "v_prediction, zero terminal SNR" in settings["prediction"]
    assert "it does not say how the model was trained" in card.text
    assert "## Figures" not in card.text and "dB" not in card.text
    assert 'custom_pipeline="pipeline"' in card.text and "ModularPipeline" in card.text
    assert "--model PATH/TO/model" in card.text


def test_records_are_shown_and_nothing_else(shell: Shell, model: Path, figures: Path) -> None:
    history = json.loads((shipped_folder("puppet") / "training.json").read_text())
    (model / "training.json").write_text(json.dumps(history))
    shutil.copy(figures, model)
    assert shell("models", "card", "model").status == 0
    text = (model / "README.md").read_text()
    shown = rows(text, "Training")
    assert [(row[0], row[1], row[3]) for row in shown] == [
        (s["recipe"]["stage"], str(s["steps_done"]), str(s["recipe"]["optimizer"]["lr"])) for s in history
    ]
    assert "started from random weights" in text and "synthetic characters alone" in text
    report = json.loads(figures.read_text())
    line = next(line for line in text.splitlines() if line.startswith("model  "))
    assert f"{report['model']['person_psnr']:.2f} dB" in line and f"{report['model']['ssim']:.4f}" in line
    assert "characters 1, frames 24, steps 1" in text

    history[0]["recipe"]["init"] = "runs/before/model"
    (model / "training.json").write_text(json.dumps(history))
    (model / "evaluation.json").unlink()
    (model / "pipeline.py").unlink()
    assert shell("models", "card", "model").status == 0
    text = (model / "README.md").read_text()
    assert "random weights" not in text and "is not in this record" in text
    assert "## Figures" not in text and "custom_pipeline" not in text


def test_what_is_written_by_hand_stays(shell: Shell, model: Path) -> None:
    file = model / "README.md"
    assert "it names no licence" in shell("models", "card", "model").out
    assert shell("models", "card", "model").status == 0
    first = file.read_text()
    assert shell("models", "card", "model").status == 0 and file.read_text() == first

    mine = first.replace("# model\n", "# Mine\n\nFor dancers.\n").replace(END, f"{END}\n\n## Thanks\n")
    file.write_text(
        mine.replace("- safetensors\n", "- safetensors\n- mine\n").replace("---\n", "---\nlicense: mit\n", 1)
    )
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | {"guidance_scale": 5.5}))
    assert shell("models", "card", "model", "--base-model", "me/base").out == "model/README.md: written\n"
    card = ModelCard(file.read_text())
    assert (card.data.license, card.data.base_model, "mine" in (card.data.tags or [])) == ("mit", "me/base", True)
    assert "# Mine\n\nFor dancers.\n" in card.text and card.text.rstrip().endswith(f"{END}\n\n## Thanks")
    assert dict(rows(card.text, "Settings"))["guidance"] == "5.5"
    assert card.text.count("## Networks") == 1


def test_refusals(shell: Shell, model: Path) -> None:
    (shell.folder / "nothing").mkdir()
    assert "no model_index.json there" in shell.refused("models", "card", "nothing")
    assert "no model of that name" in shell.refused("models", "card", "absent")
    for foreign in ("# Somebody's\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"):
        (model / "README.md").write_text(foreign)
        assert "holds no card of this command; give another name with -o" in shell.refused("models", "card", "model")
    assert "end the name in .md" in shell.refused("models", "card", "model", "-o", "card.txt")
    assert shell("models", "card", "model", "-o", "card.md").status == 0
    assert "# model\n" in (shell.folder / "card.md").read_text()
    (model / "README.md").write_text(f"---\nlicense: [mit\n---\n{BEGIN}\n{END}\n")
    assert "its header cannot be read" in shell.refused("models", "card", "model")
    (model / "README.md").unlink()

    for record, told in (("training.json", "is no record of training"), ("evaluation.json", "evaluate --json wrote")):
        for content in ("{", "[]", '[{"recipe": 1}]', '{"suite": "puppet"}'):
            (model / record).write_text(content)
            assert told in shell.refused("models", "card", "model")
        (model / record).unlink()

    tensors = load_file(weights(model, "vae"))
    tensors.pop(max(tensors))
    save_file(tensors, weights(model, "vae"), metadata={"format": "pt"})
    assert "vae has no " in shell.refused("models", "card", "model")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cards_are_up_to_date(name: str) -> None:
    content = (shipped_folder(name) / "README.md").read_text()
    card = ModelCard(content)
    assert card.data.license == "apache-2.0"
    again = model_card(shipped_folder(name), name, card.data.to_dict(), card.text.lstrip("\n"))
    assert again == content, "type: animate-anyone models card " + name


def test_files_for_diffusers(shell: Shell, model: Path) -> None:
    (model / "pipeline.py").unlink()
    result = shell("models", "diffusers", "model", "--repo", "me/mine")
    assert result.status == 0 and re.search(r"^model/pipeline\.py: written$", result.out, re.M)
    assert "import AnimateAnyonePipeline" in (model / "pipeline.py").read_text()
    assert "me/mine" in (model / "modular_model_index.json").read_text()
    (model / "block.py").write_text("mine\n")
    assert "block.py: is there already" in shell.refused("models", "diffusers", "model")
    assert "no model of that name" in shell.refused("models", "diffusers", "absent")
