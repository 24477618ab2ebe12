"""Options and folders that tests share; how many processes run them, with how many threads each."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parent.parent
BESIDE = REPOSITORY.parent / "shared"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_WORKERS = 8  # each holds PyTorch: about 1 GB of memory
# Files that take longest, begun first: one of them begun last would keep the other workers waiting for its end.
LONGEST = (
    "cli/test_documented_commands.py",
    "sampling/test_pipeline.py",
    "benchmarks/test_gpu.py",
    "interop/test_convert.py",
    "training/test_distributed.py",
    "training/test_stage_environment.py",
    "training/test_killed.py",
    "sampling/test_memory.py",
    "training/test_stages.py",
    "workflows/test_animate.py",
    "workflows/test_batch_jobs.py",
    "engines/test_ray_engine.py",
    "sampling/test_sampling_on_gpu.py",
    "training/test_cut_steps.py",
    "parity/test_whole_pipeline.py",
    "workflows/test_benchmark.py",
    "workflows/test_replace.py",
    "integrations/test_comfyui_workflows.py",
    "test_wheel.py",
    "sampling/test_memory_environment.py",
    "models/test_environment_unet.py",
    "sampling/test_loading_models.py",
    "sampling/test_pipeline_environment.py",
    "cli/test_animate_command.py",
    "perception/person/test_masks.py",
    "training/test_time_limit.py",
    "media/test_video_writing.py",
    "perception/pose/test_mediapipe.py",
    "cli/test_other_commands.py",
    "evaluation/test_suites.py",
    "training/test_clip_cache.py",
    "sampling/test_placement.py",
    "perception/person/test_mask_spills.py",
    "perception/person/test_people.py",
)

# Before anything imports PyTorch or NumPy: workers beside each other share the cores out, and processes that tests
# start inherit it. Set in the workers alone: they inherit what is set in the process that starts them.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))

# What is imported lives to the end: the collector of garbage would go through all of it again and again.
gc.disable()

# Where the tests run in the background Ctrl-C is ignored, in the processes that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers of ``-n auto``: one for each core that this process may use; on a single core none beside it."""
    return min(CORES, MOST_WORKERS) if CORES > 1 else 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        type=Path,
        metavar="DIR",
        default=None,
        help="tensors of the reference implementation; default: shared/parity/A beside the repository "
        "where it exists, else tests/parity/fixture",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {REPOSITORY / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # networks are thousands of objects, made in almost every test
    gc.enable()


def find_parity_dir(config: pytest.Config) -> Path | None:
    """The folder that ``--parity`` names, or the best that is there."""
    given: Path | None = config.getoption("--parity")
    if given is not None:
        if not (given / "README.json").is_file():
            raise pytest.UsageError(f"--parity {given}: no README.json there; give a folder of reference tensors")
        return given
    return next((f for f in (BESIDE / "parity" / "A", REPOSITORY / "tests/parity/fixture") if f.is_dir()), None)


@pytest.fixture(scope="session")
def parity_dir(pytestconfig: pytest.Config) -> Path:
    """A folder of reference tensors with its ``README.json``."""
    folder = find_parity_dir(pytestconfig)
    if folder is None:
        pytest.skip("no reference tensors: give --parity DIR")
    return folder


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips beside the repository."""
    if not (BESIDE / "clips").is_dir():
        pytest.skip("no folder of real clips beside the repository (shared/clips)")
    return BESIDE


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """``make_once(name, make)``: a folder that ``make(folder)`` fills once per test run; to be read only.

    Whichever worker asks first makes it; the others wait for it and read it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers of this run

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = root / "once" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                part = tmp_path_factory.mktemp(name)
                make(part)
                part.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def tiny_model(make_once: MakeOnce) -> Path:
    """A whole model of a few thousand weights as a folder; to be read only."""
    import tiny

    return make_once("tiny", lambda folder: tiny.pipeline().save_pretrained(folder / "model")) / "model"


@pytest.fixture(scope="session")
def dancers(make_once: MakeOnce) -> Path:
    """A folder of files to animate with, see :mod:`dancers`; to be read only."""
    import dancers

    return make_once("dancers", dancers.make)


@pytest.fixture
def load_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of ``benchmarks/`` by its name; it and what it imports from there are forgotten afterwards."""
    folder = REPOSITORY / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield import_module
    ours = {file.stem for file in folder.glob("*.py")} | {"gpu_parts", "reference_files"}
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ours:
            del sys.modules[name]
