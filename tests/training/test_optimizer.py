"""Which optimiser a recipe names, and what is said where it is not there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from small_recipes import same, small, tensors

from animate_anyone.errors import InputError
from animate_anyone.training.config import Optimizer
from animate_anyone.training.optimizer import build_optimizer, check_optimizer
from animate_anyone.training.stages import run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SMALL = Optimizer(kind="adamw8bit", lr=0.25, weight_decay=0.5, betas=(0.5, 0.75))


class StandIn(torch.optim.AdamW):
    """What bitsandbytes' class is asked for; it computes as PyTorch's."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, params: Any, **options: Any) -> None:
        self.made.append(options)
        super().__init__(params, **options)


def put_in(patch: pytest.MonkeyPatch, kind: type) -> None:
    package, module = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.optim")
    module.AdamW8bit = kind  # type: ignore[attr-defined]
    package.optim = module  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "bitsandbytes", package)
    patch.setitem(sys.modules, "bitsandbytes.optim", module)


def test_the_default_is_pytorchs() -> None:
    made = build_optimizer(Optimizer(lr=0.25, weight_decay=0.5), {"weight": torch.nn.Parameter(torch.zeros(2))})
    assert type(made) is torch.optim.AdamW
    assert (made.defaults["lr"], made.defaults["weight_decay"], made.defaults["betas"]) == (0.25, 0.5, (0.9, 0.99))


def test_without_the_package_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(InputError, match=r'pip install "animate-anyone\[bitsandbytes\]"') as caught:
        run(small("autoencoder", tmp_path / "out", optimizer__kind="adamw8bit"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_it_is_made_with_the_recipes_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, StandIn)
    StandIn.made.clear()
    build_optimizer(SMALL, {"weight": torch.nn.Parameter(torch.zeros(2))})
    assert StandIn.made == [{"lr": 0.25, "weight_decay": 0.5, "betas": (0.5, 0.75)}]
    # A run with it, stopped and resumed; what computes the same gives the same.
    for name, kind in (("plain", "adamw"), ("small", "adamw8bit")):
        run(small("autoencoder", tmp_path / name, optimizer__kind=kind, steps=1, data__size=32, objective__crop=None))
        run(small("autoencoder", tmp_path / name, optimizer__kind=kind, data__size=32, objective__crop=None), True)
    assert same(tensors(tmp_path / "plain" / "model"), tensors(tmp_path / "small" / "model"))
    with pytest.raises(InputError, match="was trained with another optimizer"):
        run(small("autoencoder", tmp_path / "small", steps=3, data__size=32, objective__crop=None), True)


def test_a_device_on_which_it_does_not_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(StandIn):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            raise NotImplementedError("no kernel\nhere")

    put_in(monkeypatch, Broken)
    check_optimizer(Optimizer(), torch.device("cpu"))
    with pytest.raises(InputError, match=r"does not go on cpu here \(no kernel here\); give optimizer.kind=adamw"):
        check_optimizer(SMALL, torch.device("cpu"))
