"""Two processes that make a clip together make the frames that one makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import REFERENCE, noise_pictures

import tiny
from animate_anyone.models import autoencoding
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.ranks import ALONE, Ranks
from run_processes import run_module, start_all

POSES = noise_pictures(1, 20)
CARRIED = noise_pictures(2, 20, 64)
CASES: dict[str, dict[str, Any]] = {
    "windows": {"window": 6, "overlap": 2},
    "batches": {"window": 6, "overlap": 2, "window_batch": 2, "guidance_scale": 2.0},
    "halves": {"window": 16, "guidance_scale": 2.0},  # of one window
    "guess": {"window": 6, "overlap": 2, "num_inference_steps": 1},
}


def pipeline(case: str) -> AnimateAnyonePipeline:
    guess = {"reference_latents": True, "carried_reference": True, "keep_detail": True, "shared_noise": True}
    made = tiny.pipeline(**(guess if case == "guess" else {}))
    made.set_progress_bar_config(disable=True)
    return made


def frames(case: str, ranks: Ranks = ALONE) -> tuple[list[Any], dict[str, int]]:
    """What one of the processes hands out; and how many calls of its networks it made."""
    made, poses = pipeline(case), POSES[:16] if case == "halves" else POSES
    parts = {"unet": made.denoising_unet, "poses": made.pose_guider}
    parts |= {"encoder": made.vae.encoder, "decoder": made.vae.decoder}
    calls = dict.fromkeys(parts, 0)
    for name, part in parts.items():
        part.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    options: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, **CASES[case], "ranks": ranks}
    own = POSES[0] if made.config["reference_pose"] else None
    carried = CARRIED if made.config["carried_reference"] else None
    generator = torch.Generator().manual_seed(0)
    given = {"reference_pose": own, "carried": carried, "generator": generator, "finish": lambda n, frame: frame + n}
    return list(made.stream(REFERENCE, poses, **given, **options)), calls


def work(rank: int, folder: Path) -> None:
    """All cases, as one of two processes."""
    autoencoding.PIXELS_AT_ONCE = 64 * 64
    ranks, told = Ranks.join(), {}
    assert (ranks.rank, ranks.count) == (rank, 2)
    for case in CASES:
        made, told[case] = frames(case, ranks)
        assert bool(made) == ranks.is_first
        if made:
            np.save(folder / f"{case}.npy", np.stack(made))
    told["first"] = ranks.of_first(lambda: f"of {rank}")
    (folder / f"told_{rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


def main(folder: Path) -> int:
    """Both, until they end; the exit status."""
    return start_all(2, work, folder)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run_module("test_ranks", folder, folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_are_one(two: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", 64 * 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the two has: sums over more threads run in another order
    try:
        alone, calls = frames(case)
    finally:
        torch.set_num_threads(threads)
    assert np.abs(np.load(two / f"{case}.npy").astype(int) - np.stack(alone)).max() <= (case == "halves")
    shares = [json.loads((two / f"told_{rank}.json").read_text())[case] for rank in range(2)]
    assert sum(share["unet"] for share in shares) == calls["unet"] * (2 if case == "halves" else 1)
    for part, once in {"unet": 0, "poses": 2, "encoder": 2, "decoder": 0}.items():  # of the reference, and the first
        assert max(share[part] for share in shares) - min(share[part] for share in shares) <= 2
        assert sum(share[part] for share in shares) <= (calls[part] + once) * (2 if case == "halves" else 1)


def test_what_the_first_finds(two: Path) -> None:
    assert {json.loads((two / f"told_{rank}.json").read_text())["first"] for rank in range(2)} == {"of 0"}
