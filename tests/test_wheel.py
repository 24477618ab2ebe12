"""The wheel: what is in it, and that it works by itself, outside the checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from animate_anyone.training.shipped_recipes import recipe_names
from conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
NO_CLEAN = "__pycache__", "*.egg-info", "*.pyc"


def run(*command: str | Path, folder: Path) -> str:
    """What a command prints, in an environment that says nothing of this checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV", "COV_"))}
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy without anything from the network."""
    for package, least in (("build", 1), ("setuptools", 77), ("pip", 22)):
        found = metadata.version(package) if importlib.util.find_spec(package) is not None else "none"
        if found == "none" or int(found.split(".")[0]) < least:
            pytest.skip(f'{package} is here in version: {found}; pip install "animate-anyone[dev]"')
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy / name)
    shutil.copytree(REPOSITORY / "src", copy / "src", ignore=shutil.ignore_patterns(*NO_CLEAN))
    # The source distribution first, and the wheel of that: as `python -m build` does, what is to be published.
    run(sys.executable, "-m", "build", "--no-isolation", "-o", copy / "dist", folder=copy)
    assert len(list((copy / "dist").glob("*.tar.gz"))) == 1
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheel, and sees the packages that it wants."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    seen = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *(p for p in sys.path if "-packages" in p)}
    (packages / "seen.pth").write_text("\n".join(sorted(seen)) + "\n")
    options = ("--no-deps", "--no-index", "--ignore-installed", "--no-compile", "--quiet", "--no-warn-script-location")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, folder=folder)
    return python.parent


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(about).decode())
    source = REPOSITORY / "src"
    wanted = {
        file.relative_to(source).as_posix()
        for file in (source / "animate_anyone").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert {f"animate_anyone/recipes/{name}.yaml" for name in recipe_names()} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert set(told.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert told["Version"] == PROJECT["version"]


def test_it_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = installed / "animate-anyone"
    where = run(installed / "python", "-c", "import animate_anyone; print(animate_anyone.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    said = run(program, "demo", "--frames", "2", "-o", "made/demo.mp4", folder=tmp_path)
    assert "made/demo.mp4" in said
    assert (tmp_path / "made" / "demo.mp4").stat().st_size > 1000
    said = run(program, "train", "puppet_image", "init=puppet", "steps=3", "--check", folder=tmp_path)
    assert "3 steps" in said
    assert {file.name for file in tmp_path.iterdir()} == {"made"}


def test_extras_do_not_clash() -> None:
    """Requirements of several extras on one package are the same, or those of `dev`, which may be narrower."""
    extras = {
        name: [Requirement(one) for one in ones]
        for name, ones in PROJECT["optional-dependencies"].items()
        if name != "dev"
    }
    wanted: dict[str, dict[str, str]] = {}
    for extra, requirements in extras.items():
        for requirement in requirements:
            if requirement.name != PROJECT["name"]:
                wanted.setdefault(requirement.name.lower(), {})[extra] = str(requirement.specifier)
            else:  # an extra that is made of others
                assert requirement.extras <= extras.keys(), requirement
    for package, asked in wanted.items():
        assert len(set(asked.values())) == 1, (package, asked)
    base = {Requirement(one).name.lower() for one in PROJECT["dependencies"]}
    assert not base & wanted.keys(), "a package that is needed anyway stands in an extra"
    # Two OpenCVs in one environment overwrite each other's files: no bundle may hold both that bring one.
    assert not any({"pose", "rtmlib"} <= r.extras for rs in extras.values() for r in rs)
