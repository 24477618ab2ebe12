"""Every command of README.md, CONTRIBUTING.md and docs/ is a command: read by the real parser, and run where it can be.

A block of code without a language is one of commands, a line each. Each of them is run, with the options of ``SHRUNK``
that make it short, unless ``NOT_RUN`` says why not; and each is parsed, so that a misspelt option fails.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typer
from command import Shell

from animate_anyone.cli.app import app
from animate_anyone.media import VideoWriter
from animate_anyone.models.shipped import SHIPPED, shipped_folder
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.training.__main__ import _parser as training_parser
from animate_anyone.training.chain import load_chain
from animate_anyone.training.recipe_file import load_recipe, read_settings_file
from conftest import REPOSITORY

DOCS = sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", *DOCS]
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
SPAN = re.compile(r"(?<!`)`(animate-anyone [^`]+)`(?!`)")
PROGRAM = "animate-anyone"
USAGE_ERROR = typer.BadParameter.__mro__[1]  # of click, or of typer's own copy of it

# Options that make a command short: by the words that it begins with, the longest that fits.
SHRUNK: dict[str, list[str]] = {
    "animate": ["--frames", "0:2", "--device", "cpu"],
    "replace": ["--frames", "0:2", "--device", "cpu"],
    "batch": [],
    "pose": [],
    "demo": ["--frames", "2"],
    "doctor": ["--no-self-test"],
    "synthesize": ["--clips", "1", "--frames", "2", "--size", "64x64"],
    "prepare": ["--seconds", "1:10", "--min-height", "32"],
    "evaluate --suite": ["--characters", "1", "--long-clips", "0", "--side", "64", "--device", "cpu"],
    "evaluate --suite puppet-environment": ["--characters", "1", "--device", "cpu"],
    "evaluate --model": ["--characters", "1", "--long-clips", "0", "--side", "64", "--device", "cpu"],
    "evaluate --generated": ["--metrics", "psnr,ssim,l1"],
    "evaluate --generated results/ --reference": ["--device", "cpu"],
    "report": [],
    "models": [],
    "train": [
        *("steps=1", "batch=1", "accumulate=1", "log_every=1", "precision=float32"),
        *("data.clips=2", "data.cache=null", "data.workers=1", "optimizer.warmup_steps=0"),
        *("monitor.validation_clips=1", "monitor.validation_frames=2", "monitor.validation_steps=1"),
    ],
    "train recipes/puppet_gpu.yaml": ["--check"],
}
# What begins so is parsed and not run, for this reason.
NETWORK = "downloads published weights; run on stand-ins by tests/interop and tests/training/test_documented_start.py"
PAPER_SIZE = "trains networks of full size; run with small ones by tests/training/test_paper_size.py"
WEIGHTS = "needs weights; run on tiny ones by tests/workflows/test_replace_networks.py and tests/preparation"
SYNOPSIS = "says what may be given, and is no command"
HELD = "a long run of the repository's own"
NOT_RUN: dict[str, str] = {
    "animate-anyone models pull": NETWORK,
    "animate-anyone models convert": NETWORK,
    "animate-anyone models start": NETWORK,
    "animate-anyone models show models/moore": NETWORK,
    "animate-anyone animate character.png --driving dance.mp4 --model models/moore": NETWORK,
    "animate-anyone animate me.png --driving dance.npz --model models/moore": NETWORK,
    "animate-anyone animate character.png --driving dance.mp4 --model FOLDER --offload": "needs a GPU",
    "animate-anyone pose dance.mp4 -o dance.npz --pose-estimator rtmlib": "needs files; see test_rtmlib.py",
    "animate-anyone replace character.png --video street.mp4 -o out.mp4 --depth": WEIGHTS,
    "animate-anyone prepare videos/ -o dataset --masks --depth": WEIGHTS,
    "animate-anyone prepare --from-shards https": "reads from a server; run on files by tests/preparation",
    "animate-anyone prepare videos/ more.mp4 list.txt": "needs videos of one's own; see the same without list.txt",
    "animate-anyone train recipes/aa1": PAPER_SIZE,
    "animate-anyone train recipes/aa2": PAPER_SIZE,
    "animate-anyone train ablation/": "trains from nothing; run by tests/training/test_ablations.py",
    "animate-anyone train recipes/ablation/aa1": PAPER_SIZE,
    "animate-anyone train reference_net.yaml": "goes on from what ablation/autoencoder was trained to",
    "animate-anyone evaluate --model runs/weighted": "measures what those two were trained to",
    "animate-anyone evaluate --model runs/plain": "measures what those two were trained to",
    "animate-anyone evaluate --benchmark": "wants a published data set; run on stand-ins by tests/workflows",
    "animate-anyone --install-completion": "writes into the files of one's shell; see test_completion.py",
    "animate-anyone --show-completion": "finds out which shell it is typed in; see test_completion.py",
    "animate-anyone web": "serves until it is stopped; run by tests/web",
    "cp ": "copies what ablation/autoencoder was trained to",
    "python -m animate_anyone.training": "is `train` of other packages; run by tests/training/test_time_limit.py",
    "python -m build": "run by tests/test_wheel.py",
    "python benchmarks/": HELD,
    "torchrun": "needs several processes; run by tests/training/test_distributed.py and tests/sampling/test_ranks.py",
    "tensorboard": "serves until it is stopped",
    "jupyter ": "serves until it is stopped; the notebook is run by tests/workflows/test_notebook.py",
    "pip ": "asks a package index",
    "pipx ": "asks a package index",
    "docker ": "needs images",
    "make ": HELD,
    "mkdocs serve": "serves until it is stopped",
    ". .venv/bin/activate": "is the shell's own",
}
RUN_BY_A_SHELL = ("echo", "mkdir")
# What stands for something of the reader's own, as the parser is to read it.
PLACEHOLDERS = {"aa1|aa2": "aa1", "N": "1"}


@dataclass(frozen=True)
class Command:
    """A line of a page, and what is to be parsed of it."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        """Without a comment, and without the brackets of what may be left out."""
        words = shlex.split(self.line.replace(" [", " ").replace("] ", " ").removesuffix("]"), comments=True)
        return [PLACEHOLDERS.get(word, word) for word in words]

    @property
    def target(self) -> str | None:
        """The file that it is redirected to."""
        return self.words[-1] if len(self.words) > 2 and self.words[-2] == ">" else None

    @property
    def arguments(self) -> list[str] | None:
        """What follows ``animate-anyone`` in it, however that is called; ``None`` where it is another program."""
        words = self.words[:-2] if self.target else self.words
        while words and "=" in words[0]:  # of the environment
            words = words[1:]
        if words[0] == PROGRAM:
            return words[1:]
        if words[0] in ("pipx", "docker") and words[1] == "run":
            image = next((n for n, word in enumerate(words) if word.split(":")[0] == PROGRAM), None)
            return None if image is None else words[image + 1 :]
        for module in ("animate_anyone", "animate_anyone.cli.main"):
            if "-m" in words and words[words.index("-m") + 1] == module:
                return words[words.index("-m") + 2 :]
        return None

    @property
    def reason(self) -> str | None:
        """Why it is not run; ``None``: it is."""
        if "[--" in self.line or "|" in self.line:
            return SYNOPSIS
        line = " ".join(self.words)
        return next((why for start, why in NOT_RUN.items() if line.startswith(start)), None)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and content of every block of a page."""
    for _, language, content in BLOCK.findall((REPOSITORY / page).read_text()):
        yield language, content


def commands(page: str) -> list[Command]:
    """A page's commands, in their order."""
    found = []
    for language, content in blocks(page):
        if language in ("", "bash", "sh", "shell", "console") and not content.startswith("for "):
            lines = content.replace("\\\n", " ").splitlines()
            found += [
                Command(page, line.strip()) for line in lines if line.strip() and not line.strip().startswith("#")
            ]
    return found


ALL = [command for page in PAGES for command in commands(page)]


def parse(arguments: list[str]) -> dict[str, Any]:
    """Read a command line by the command's own parser; nothing is run. Returns what the verb is given."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    while True:
        context = command.make_context(command.name or PROGRAM, list(arguments), parent=context)
        if not hasattr(command, "resolve_command"):
            return context.params
        _, found, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        command = found


def check_settings(recipe: str, settings: list[str]) -> None:
    """Settings of ``train`` must be those of a recipe."""
    if "/" not in recipe and recipe.endswith(".yaml"):  # of the reader's own
        recipe = "puppet_videos"
    tree = read_settings_file(recipe)
    if "stages" in tree:
        load_chain(recipe, tree, settings)
    else:
        load_recipe(recipe, settings)


def check(command: Command) -> None:
    """Raise, or fail, where a command is none."""
    words, arguments = command.words, command.arguments
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    if arguments is not None:
        if arguments[0] in ("--install-completion", "--show-completion"):
            return
        given = parse(arguments)
        if arguments[0] == "train":
            check_settings(str(given["recipe"]), given["settings"] or [])
    elif words[:3] == ["python", "-m", "animate_anyone.training"]:
        asked = training_parser().parse_intermixed_args(words[3:])
        check_settings(asked.recipe, asked.settings)
    elif words[0] == "python" and words[1].startswith("benchmarks/"):
        source = (REPOSITORY / words[1]).read_text()
        assert all(f'"{word}"' in source for word in words[2:] if word.startswith("--"))
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
        assert words[1] in targets, f"no target {words[1]}"
    elif words[0] in ("pip", "pipx"):
        assert words[1] in ("install", "run")
        for extras in re.findall(r"animate-anyone\[([\w,]+)\]|\.\[([\w,]+)\]", command.line):
            assert set("".join(extras).split(",")) <= project["optional-dependencies"].keys()
    elif words[0] == "docker":
        assert (
            words[1] == "build"
            and f"AS {words[words.index('--target') + 1]}" in (REPOSITORY / "Dockerfile").read_text()
        )
    else:
        others = ("tensorboard", "jupyter", "cp", ".", "mkdocs", *RUN_BY_A_SHELL)
        assert words[0] in others or words[:3] == ["python", "-m", "build"], f"{words[0]}: what is that?"


def test_pages_have_commands() -> None:
    assert len(ALL) > 80
    assert {"README.md", "docs/index.md", "docs/tutorials/own_videos.md"} <= {command.page for command in ALL}


@pytest.mark.parametrize("page", PAGES)
def test_each_is_a_command(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for command in commands(page):
        try:
            check(command)
        except Exception as error:
            pytest.fail(f"{page}: {command.line}: {type(error).__name__}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize("page", PAGES)
def test_each_in_a_sentence_is_a_command(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`animate-anyone VERB ...` in running text, where it is whole."""
    monkeypatch.chdir(REPOSITORY)
    for span in SPAN.findall((REPOSITORY / page).read_text()):
        line = " ".join(span.split())
        if "..." in line or "…" in line or "VERB" in line or line.endswith("--help"):
            continue
        try:
            parse(Command(page, line).words[1:])
        except Exception as error:
            if type(error).__name__ == "MissingParameter":
                continue  # `animate-anyone animate`, named and not typed
            pytest.fail(f"{page}: {line}: {type(error).__name__}: {getattr(error, 'message', error)}")


def test_a_misspelt_option_is_found() -> None:
    for line in (
        "animate-anyone animate a.png --driving b.mp4 --sede 1",
        "animate-anyone anymate a.png",
        "animate-anyone train puppet_image stepps=5",
        "torchrun --nproc-per-node 4 -m animate_anyone train recipes/aa2.yaml --chek",
        "pipx run animate-anyone demo --farmes 4",
        'pip install "animate-anyone[poze]"',
        "docker run --rm animate-anyone demo --farmes 4",
        "make sandwich",
        "python benchmarks/animate.py --rnus 3",
        "frobnicate",
    ):
        with pytest.raises((USAGE_ERROR, ValueError, AssertionError)):
            check(Command("page", line))


def test_each_reason_is_wanted() -> None:
    """No line of ``NOT_RUN`` and ``SHRUNK`` stands there for nothing; of commands that others may add, neither."""
    lines = [" ".join(command.words) for command in ALL]
    later = {"animate-anyone web", "mkdocs serve", "python -m build"}
    assert [start for start in NOT_RUN.keys() - later if not any(line.startswith(start) for line in lines)] == []
    typed = [" ".join(command.arguments) for command in ALL if command.arguments]
    assert [start for start in SHRUNK if not any(line.startswith(start) for line in typed)] == []


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_imports_what_there_is(page: str) -> None:
    """Blocks of Python are Python, and what they import of this project is there."""
    for language, content in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("animate_anyone"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, dancers: Path) -> Path:
    """A folder with what a reader of the pages has: pictures, videos, a file of jobs, results and their truth."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("character.png", "me.png", "picture.png"):
        shutil.copy(dancers / "me.png", folder / name)
    dance = sample_clip(1, num_frames=30, size=(192, 256), fps=Fraction(24), motion="dance", supersample=1)
    with VideoWriter(folder / "dance.mp4", (192, 256), Fraction(24)) as video:
        for frame in dance.frames.numpy():
            video.write(frame)
    for name in ("street.mp4", "other.mp4", "videos/dance.mp4", "results/one.mp4", "truth/one.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "dance.mp4", folder / name)
    dance.pose.save(folder / "dance.npz")
    job = {"character": "character.png", "driving": "dance.npz", "output": "one.mp4", "frames": "0:2"}
    (folder / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    for name in ("MODEL", "FOLDER"):
        shutil.copytree(shipped_folder("puppet"), folder / name)
    return folder


DONE: set[str] = set()
"""What was run already: a command that stands on several pages is run once."""


def shrunk(arguments: list[str]) -> list[str]:
    """A command with the options that make it short."""
    line = " ".join(arguments)
    start = max((start for start in SHRUNK if line.startswith(start)), key=len, default=None)
    return arguments if start is None else [*arguments, *SHRUNK[start]]


def prepare_training(arguments: list[str]) -> None:
    """A run starts in a folder that holds none, from a model that is there."""
    given = parse(arguments)
    if given["show"] or "stages" in read_settings_file(given["recipe"]):
        return
    recipe = load_recipe(given["recipe"], given["settings"] or [])
    if not given["resume"]:
        shutil.rmtree(recipe.output, ignore_errors=True)
    if recipe.init is not None and recipe.init not in SHIPPED and not Path(recipe.init).exists():
        shutil.copytree(
            shipped_folder("puppet-environment" if recipe.stage == "environment" else "puppet"), recipe.init
        )


@pytest.mark.parametrize("page", [page for page in PAGES if any(c.reason is None for c in commands(page))])
def test_each_runs(
    page: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
    pytest.importorskip("scenedetect", reason='scenedetect is not installed: pip install "animate-anyone[prepare]"')
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", str(tmp_path / "home"))
    shell = Shell(desk, monkeypatch, capfd)
    for command in commands(page):
        name = shlex.join(command.words)
        if command.reason is not None or name in DONE:
            continue
        DONE.add(name)
        if command.words[0] in RUN_BY_A_SHELL:
            subprocess.run(["sh", "-c", command.line], cwd=desk, check=True)
            continue
        arguments = command.arguments
        assert arguments is not None, command.line
        if arguments[0] == "train":
            prepare_training(arguments)
        short = arguments if command.target or "--check" in arguments else shrunk(arguments)
        result = shell(*short)
        good = (0, 1) if arguments[0] == "doctor" else (0,)
        assert result.status in good, f"{page}: {PROGRAM} {shlex.join(short)}\n{result.out}{result.err}"
        if command.target:
            (desk / command.target).write_text(result.out)


def test_a_script_runs(desk: Path, tmp_path: Path) -> None:
    """Blocks of ``sh`` that are no single commands: the loop that writes a file of jobs."""
    (script,) = (content for language, content in blocks("docs/batch.md") if content.startswith("for "))
    for name in ("a.png", "b.png", "one.mp4"):
        (tmp_path / name).touch()
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]})
    jobs = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert [job["output"] for job in jobs] == ["a_one.mp4", "b_one.mp4"]
