"""What only a GPU can tell, in order of worth, within a time: one Markdown report, written as it goes.

python benchmarks/gpu.py --minutes 6                   on a GPU, full size
python benchmarks/gpu.py --minutes 3 --device cpu      tries the benchmark with narrow networks and small pictures
python benchmarks/gpu.py --training-at 256             training steps of the full-size networks alone, on a CPU too

Parity with the reference implementation, frames of the shipped models, memory beside its estimate, a denoising step,
clips in every mode and a training step of the full-size networks. Weights of full size are random, pictures come from
the studio or are random too: no files beyond this repository's are read. It imports torch, diffusers, transformers,
safetensors, NumPy, scikit-image, accelerate and PyYAML, and nothing that reads videos; with PYTHONPATH=src nothing need
be installed.
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_parts.measure import Machine

RESERVE = 5.0
"""Seconds of the given time for what no unit holds: starting and ending the process, releasing memory."""


def describe_device(machine: Machine, minutes: float) -> str:
    """Device, versions and what was asked for, one paragraph."""
    import torch
    from gpu_parts.measure import GIB
    from machine import describe

    parts = [describe()]
    if machine.cuda:
        properties = torch.cuda.get_device_properties(machine.device)
        parts.insert(
            0,
            f"{properties.name}, {properties.total_memory / GIB:.0f} GiB, compute capability {properties.major}."
            f"{properties.minor}, {properties.multi_processor_count} multiprocessors; CUDA {torch.version.cuda}; "
            f"cuDNN {torch.backends.cudnn.version()}",
        )
    size = "Narrow networks and small pictures, to try the benchmark: no figures of full size. " if machine.tiny else ""
    return f"{size}Device {machine.device}: {'; '.join(parts)}. At most {minutes:g} minutes."


def parse() -> argparse.Namespace:
    """The options; ends the process where they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="the whole run takes at most so long; default 6")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="Markdown file to write; default: gpu.md in benchmarks/results, gpu_tiny.md at tiny size",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--tiny", action="store_true", help="narrow networks, small pictures; always so on a CPU")
    parser.add_argument(
        "--training-at", type=int, default=None, metavar="SIDE",
        help="training steps of the full-size networks alone, at frames of this side, on a CPU too",
    )  # fmt: skip
    parser.add_argument("--parity", type=Path, default=None, help="another folder of the reference's tensors")
    parser.add_argument("--only-on-gpu", action="store_true", help="do nothing where there is no CUDA GPU")
    asked = parser.parse_args()
    if not 0 < asked.minutes <= 24 * 60:
        parser.error(f"--minutes {asked.minutes:g}: give a number above 0, at most {24 * 60}")
    if asked.parity is not None and not (asked.parity / "README.json").is_file():
        parser.error(f"--parity {asked.parity}: no README.json there; give a folder of reference tensors")
    return asked


def main() -> None:
    began = time.monotonic()  # the imports count too
    asked = parse()
    import diffusers
    import torch
    import transformers
    from gpu_parts.foretold import FULL, foretold
    from gpu_parts.frames import frames
    from gpu_parts.measure import Machine
    from gpu_parts.modes import compiled, modes
    from gpu_parts.parity import FOLDER, parity
    from gpu_parts.report import Clock, Report, run
    from gpu_parts.step import more, products, steps
    from gpu_parts.training import training, training_at
    from machine import RESULTS

    from animate_anyone.models.shipped import SHIPPED
    from animate_anyone.sampling.placement import choose_device

    if asked.only_on_gpu and not torch.cuda.is_available():
        print("no GPU here, nothing measured: python benchmarks/gpu.py --device cpu tries it at tiny size")
        return
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    device = choose_device(asked.device)
    machine = Machine(device, asked.training_at is None and (asked.tiny or device.type != "cuda"))
    clock = Clock(60 * asked.minutes - RESERVE, began)
    name = "gpu_tiny.md" if machine.tiny else "gpu.md" if asked.training_at is None else "full_size_training.md"
    report = Report(asked.output or RESULTS / name)
    torch.manual_seed(0)
    if machine.cuda:
        gc.freeze()  # what the imports made is never garbage: each later search takes a moment, not half a second
    report.add(f"# What a GPU tells\n\n{describe_device(machine, asked.minutes)}")
    if asked.training_at is not None:
        run((products(machine), training_at(machine, asked.training_at)), report, clock, machine.release)
        return
    first, second = FULL
    parts = (
        replace(products(machine), share=0.1),
        replace(parity(machine, asked.parity or FOLDER), share=0.15),
        replace(frames(machine), share=0.15),
        replace(foretold(machine, (first, *SHIPPED)), share=0.3),
        replace(steps(machine), share=0.2),
        replace(modes(machine), share=0.3),
        replace(compiled(machine), share=0.3),
        replace(training(machine), share=0.4),
        foretold(machine, (second,)),
        more(machine),
    )
    run(parts, report, clock, machine.release)
    report.add(f"\nThe run came to its end after {clock.gone():.0f} s.")


if __name__ == "__main__":
    main()
