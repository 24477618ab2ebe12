"""Two processes make the segments of a clip that one makes: each is shown the same frames before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from test_continuation import FRAMES, inputs, made

from animate_anyone.sampling.ranks import ALONE, Ranks
from run_processes import run_module, start_all

CASES: dict[str, dict[str, Any]] = {"one step": {}, "guided": {"num_inference_steps": 2, "guidance_scale": 2.0}}


def frames(case: str, ranks: Ranks = ALONE) -> list[Any]:
    pipeline = made()
    given, options = inputs(pipeline, **CASES[case])
    return list(pipeline.stream(*given, **options, ranks=ranks))


def work(rank: int, folder: Path) -> None:
    """All cases, as one of two processes."""
    ranks = Ranks.join()
    for case in CASES:
        if out := frames(case, ranks):
            np.save(folder / f"{case}.npy", np.stack(out))
    torch.distributed.destroy_process_group()


def main(folder: Path) -> int:
    """Both, until they end; the exit status."""
    return start_all(2, work, folder)


def test_two_processes_make_the_same_segments(tmp_path: Path) -> None:
    run_module("test_continuation_ranks", tmp_path, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the two has
    try:
        for case in CASES:
            two = np.load(tmp_path / f"{case}.npy")
            assert len(two) == FRAMES
            # Halves under guidance are computed apart, which changes last bits.
            assert np.abs(two.astype(int) - np.stack(frames(case))).max() <= (case == "guided"), case
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    import sys

    sys.exit(main(Path(sys.argv[1])))
