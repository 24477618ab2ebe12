"""From an empty folder to a model by the commands of docs/training.md, and nothing else: stand-ins of the published
files, in their real layouts, are served on loopback.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from huggingface_hub import close_session, constants
from test_paper_size import SMALL
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import published
import tiny
from animate_anyone.cli.main import main
from animate_anyone.interop import catalog
from animate_anyone.models.denoising_unet import DenoisingUNet
from conftest import REPOSITORY
from small_hub import SmallHub

MARK = "<!-- published weights to a model -->"
# What makes two steps of a recipe of paper size quick; the published networks are small already.
SHRUNK = {**SMALL, "batch": 1, "accumulate": 1}
AA2 = {"environment.modulation": {"num_attention_heads": 2}}


def documented() -> list[list[str]]:
    """The commands of the block in docs/training.md."""
    text = (REPOSITORY / "docs" / "training.md").read_text()
    block = re.search(rf"{re.escape(MARK)}\n```\n(.*?)```", text, re.S)
    assert block
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def files_of(folder: Path, repo: str, inside: str = "") -> dict[tuple[str, str], bytes]:
    """Every file of a folder, by repository and path there."""
    return {(repo, f"{inside}{path.name}"): path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A hub on loopback that serves small networks under the names and in the layouts of the published files."""
    torch.manual_seed(0)
    made = tmp_path / "made"
    tiny.unet2d(block_out_channels=[32, 64], attention_head_dim=4, layers_per_block=2).save_pretrained(made / "unet")
    AutoencoderKL(**tiny.VAE).save_pretrained(made / "vae")
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER))
    encoder.save_pretrained(made / "clip")
    (made / "clip" / "model.safetensors").unlink()
    # Published with a buffer that newer libraries leave out.
    ids = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    pickled = io.BytesIO()
    torch.save(encoder.state_dict() | ids, pickled)
    published.write_animatediff(made / "mm_sd_v15_v2.ckpt", positions=32)
    served = {
        **files_of(made / "unet", catalog.SD15, "unet/"),
        **files_of(made / "vae", catalog.VAE.repo),
        **files_of(made / "clip", catalog.CLIP.repo, "image_encoder/"),
        (catalog.CLIP.repo, "image_encoder/pytorch_model.bin"): pickled.getvalue(),
        ("guoyww/animatediff", "mm_sd_v15_v2.ckpt"): (made / "mm_sd_v15_v2.ckpt").read_bytes(),
    }
    shutil.rmtree(made)
    find = socket.getaddrinfo

    def only_loopback(host: Any, *arguments: Any, **options: Any) -> Any:
        assert host in ("127.0.0.1", b"127.0.0.1"), f"the test asked for {host}"
        return find(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", str(tmp_path / "home"))
    close_session()
    with SmallHub() as running:
        for (repo, path), data in served.items():
            running.commits[repo]["a" * 40][path] = data
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running
    close_session()


def test_the_documented_commands(
    hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(REPOSITORY / "recipes", empty / "recipes")
    monkeypatch.chdir(empty)
    commands = documented()
    assert [command[:2] for command in commands[:2]] == [["models", "start"], ["models", "pull"]]
    assert [Path(command[1]).stem for command in commands[2:]] == ["aa1_stage1", "aa1_stage2", "aa2"]
    for command in commands:
        shrunk = SHRUNK | (AA2 if "recipes/aa2.yaml" in command else {}) if command[0] == "train" else {}
        settings = [f"{name}={json.dumps(value)}" for name, value in shrunk.items()]
        monkeypatch.setattr(sys, "argv", ["animate-anyone", *command, *settings])
        try:
            main()
        except SystemExit as end:
            assert not end.code, (command, capfd.readouterr().err)

    told = json.loads(Path("models/aa1_start/start.json").read_text())["parts"]
    assert told["unet"]["pulled"] == {catalog.SD15: "a" * 40}
    assert not list(Path("models/aa1_start").rglob("*.bin"))
    adapter = torch.load("models/animatediff-v2/mm_sd_v15_v2.ckpt", weights_only=True)
    weight = adapter[published.motion_name("mid_block.motion_modules.0.proj_in.weight")]
    for name in ("aa1_stage2", "aa2"):
        unet = DenoisingUNet.from_pretrained(f"runs/{name}/model/denoising_unet")
        assert unet.config["motion_max_seq_length"] == 32
        found = unet.state_dict()["mid_block.motion_modules.0.proj_in.weight"].float()
        assert torch.allclose(found, weight, atol=1e-3)
    history = json.loads(Path("runs/aa1_stage2/model/training.json").read_text())
    assert [part["steps_done"] for part in history] == [2, 2]
