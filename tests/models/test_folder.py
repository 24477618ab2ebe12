"""What is known of a model folder before anything of it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.folder import (
    ALL_NETWORKS,
    bytes_on_disk,
    check_classes,
    class_name,
    index_entry,
    model_folder,
    networks_of,
)
from animate_anyone.models.shipped import INDEX, SHIPPED, shipped_folder
from animate_anyone.models.weight_files import read_headers


def test_shipped_models_are_all_there() -> None:
    there = {index.parent.name for index in shipped_folder("").glob(f"*/{INDEX}")}
    assert there == set(SHIPPED)
    assert model_folder(SHIPPED[0]) == shipped_folder(SHIPPED[0])


def test_not_a_model_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        model_folder(tmp_path / "nothing")
    with pytest.raises(InputError, match="no model_index"):
        model_folder(tmp_path)


def test_bytes_on_disk(tiny_model: Path) -> None:
    assert bytes_on_disk(tiny_model) == sum(file.stat().st_size for file in tiny_model.glob("*/*.safetensors"))


def test_entries_are_as_diffusers_writes_them(tmp_path: Path) -> None:
    tiny.environment_pipeline().save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / INDEX).read_text())
    networks = networks_of(tmp_path / "model")
    assert class_name(tmp_path / "model") == "AnimateAnyone2Pipeline"
    for part in ALL_NETWORKS:
        assert index.get(part, [None, None]) == index_entry(networks.get(part)), part
    assert index["scheduler"] == index_entry(DDIMScheduler)
    check_classes(tmp_path / "model")
    index["reference_control"] = ["os", "system"]
    (tmp_path / "model" / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"its reference_control is os\.system; a model's is nothing"):
        check_classes(tmp_path / "model")


def test_headers(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16), "module.b": torch.zeros((), dtype=torch.int64)}, file)
    assert read_headers(file) == {"a": ((2, 3), "BF16"), "module.b": ((), "I64")}
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(InputError, match="damaged, or not a safetensors file"):
        read_headers(file)
    with pytest.raises(InputError, match="damaged, or not a safetensors file"):
        read_headers(tmp_path / "nothing.safetensors")
