"""Options and folders that tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
BESIDE = REPOSITORY.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        type=Path,
        metavar="DIR",
        default=None,
        help="tensors of the reference implementation; default: shared/parity/A beside the repository "
        "where it exists, else tests/parity/fixture",
    )


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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model of a few thousand weights as a folder; to be read only."""
    import tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dancers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to animate with, see :mod:`dancers`; to be read only."""
    import dancers

    folder = tmp_path_factory.mktemp("dancers")
    dancers.make(folder)
    return folder
