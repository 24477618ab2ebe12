"""What of an installation works: one line for each finding, with what to type to mend it."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.optional import EXTRAS

OK, ABSENT, WARNING, FAULT = "ok", "absent", "warning", "fault"
"""Levels: it works; it is not there and nobody needs it; it works, but not all or not well; it does not work."""
GIB = 2**30
LOW_DISK = 2 * GIB
LOW_MEMORY = 2.5 * GIB
"""What `animate` with a shipped model needs at 512 pixels, networks and libraries included."""
WRITTEN = {"video": "libx264", "sound": "aac"}
READ = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores", "mjpeg", "png", "aac", "mp3", "opus")
OPENCVS = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
DISTRIBUTION = "animate-anyone"
REINSTALL = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
_SAID = "what is wrong: "
_IMPORT = f"""
import sys
from animate_anyone.errors import InputError
from animate_anyone.optional import require
try:
    for module in sys.argv[2:]:
        require(module, sys.argv[1])
except InputError as error:
    print({_SAID!r}, error, sep="")
"""
"""A program that imports some modules of an extra, and says why that cannot be."""
_WORST = 15.0  # dB between the self-test's frames and the truth; a right build has more than 20


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        level: ``ok``, ``absent``, ``warning`` or ``fault``.
        text: what was found.
        mend: what to do about it; empty where there is nothing to do.
    """

    level: str
    text: str
    mend: str = ""

    @property
    def line(self) -> str:
        """One line for the user."""
        said = f"{self.text}; {self.mend}" if self.mend else self.text
        return f"{self.level:<8} {' '.join(said.split())}"


def examine(device: str = "auto", self_test: bool = True) -> Iterator[Finding]:
    """Look at everything; findings come as they are made.

    Args:
        device: of the self-test, as for ``animate``.
        self_test: animate a few frames with the shipped model, too.

    Nothing is raised: what cannot be looked at is a finding.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", _python),
        ("required packages", _packages),
        ("PyTorch", _pytorch),
        ("codecs", _codecs),
        ("extras", _extras),
        ("models", _models),
        ("disk and memory", _room),
    ]
    if self_test:
        looks.append(("self-test", lambda: _self_test(device)))
    for name, look in looks:
        try:
            yield from look()
        except InputError as error:
            yield Finding(FAULT, f"{name}: {error}")
        except Exception as error:
            yield Finding(FAULT, f"{name}: {type(error).__name__}: {error}", _mend(error))


def status(findings: list[Finding]) -> int:
    """Exit status: 0 all works that is installed, 1 there are warnings, 2 there are faults."""
    levels = {finding.level for finding in findings}
    return 2 if FAULT in levels else int(WARNING in levels)


def _mend(error: Exception) -> str:
    """What to do about an error that nobody foresaw."""
    if isinstance(error, ImportError):
        package = (error.name or DISTRIBUTION).split(".")[0]
        return f"to renew it, type: pip install --force-reinstall {package}"
    if isinstance(error, OSError):  # of the system, and says what of it
        return ""
    return "with --device cpu it can be seen whether a GPU is to blame; if none is, this is worth a report"


def _python() -> Iterator[Finding]:
    yield Finding(OK, f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {sys.prefix}")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        version, asked = metadata.version(DISTRIBUTION), metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(WARNING, f"{DISTRIBUTION} runs from a folder and is not installed", "type: pip install -e .")
        return
    bad = False
    required = [Requirement(one) for one in asked]
    for requirement in required:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = None
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            bad = True
            what = "is not installed" if found is None else f"is there in version {found}"
            yield Finding(FAULT, f"{wanted} is needed, {requirement.name} {what}", f'type: pip install "{wanted}"')
    if not bad:
        yield Finding(OK, f"{DISTRIBUTION} {version}, and the packages that it needs")


def _pytorch() -> Iterator[Finding]:
    import torch

    from animate_anyone.sampling.memory import memory_of, readable

    yield Finding(OK, f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads on the CPU")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(number)
            free, most = memory_of(torch.device("cuda", number)) or (0, 0)
            capability = f"compute capability {of.major}.{of.minor}"
            line = f"GPU {number}: {of.name}, {capability}, {readable(free)} of {readable(most)} free"
            yield Finding(OK, line)
    elif torch.backends.mps.is_available():
        yield Finding(OK, "GPU: Apple's, by MPS")
    elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        why = "is built without CUDA" if torch.version.cuda is None else f"(CUDA {torch.version.cuda}) does not see it"
        mend = "install PyTorch for the driver's CUDA version, see https://pytorch.org/get-started/locally"
        yield Finding(WARNING, f"GPU: one of NVIDIA is there, and this PyTorch {why}", mend)
    else:
        yield Finding(ABSENT, "GPU: none; the small models work without, published weights are slow")


def _codecs() -> Iterator[Finding]:
    import av

    renew = 'type: pip install --force-reinstall "av>=18"'

    def has(name: str, mode: str) -> bool:
        with contextlib.suppress(ValueError):
            av.Codec(name, mode)  # type: ignore[arg-type]
            return True
        return False

    for what, name in WRITTEN.items():
        if not has(name, "w"):
            yield Finding(FAULT, f"codecs: PyAV {av.__version__} cannot write {what}: it has no {name}", renew)
    absent = [name for name in READ if not has(name, "r")]
    if absent:
        yield Finding(WARNING, f"codecs: PyAV {av.__version__} cannot read {', '.join(absent)}", renew)
    else:
        yield Finding(OK, f"codecs: PyAV {av.__version__} writes H.264 and AAC and reads {', '.join(READ)}")


def _extras() -> Iterator[Finding]:
    there = [
        extra
        for extra, modules in EXTRAS.items()
        if all(find_spec(module.split(".")[0]) is not None for module in modules)
    ]
    with ThreadPoolExecutor() as threads:  # which wait for processes
        wrong = dict(zip(there, threads.map(lambda extra: _wrong_with(extra, EXTRAS[extra]), there), strict=True))
    for extra, modules in EXTRAS.items():
        if extra not in there:
            yield Finding(ABSENT, f"extra {extra}", f'to have it, type: pip install "{DISTRIBUTION}[{extra}]"')
            continue
        if wrong[extra]:
            yield Finding(WARNING, f"extra {extra}: {wrong[extra]}")
        else:
            yield Finding(OK, f"extra {extra}: {', '.join(map(_version, modules))}")
    if "pose" not in there and "rtmlib" not in there:
        extra = "pose" if sys.version_info < (3, 13) else "rtmlib"
        mend = f'type: pip install "{DISTRIBUTION}[{extra}]"'
        yield Finding(WARNING, "no pose estimator is installed: videos and pictures cannot be looked at", mend)
    found = sorted(name for name in OPENCVS if _installed(name))
    if len(found) > 1:
        mend = f"type: pip uninstall {' '.join(found)}; pip install {found[0]}; or an environment for each extra"
        yield Finding(WARNING, f"{' and '.join(found)} are installed, and overwrite each other's files", mend)


def _wrong_with(extra: str, modules: Sequence[str]) -> str:
    """Why modules cannot be imported, in a process of its own: what an import starts, sets or breaks ends with it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _IMPORT, extra, *modules]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if _SAID in done.stdout:
        return done.stdout.rpartition(_SAID)[2].strip()
    return f"importing {' and '.join(modules)} ends the process ({done.returncode})" if done.returncode else ""


def _version(module: str) -> str:
    name = module.split(".")[0]
    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"{name} {metadata.version(name)}"
    return name


def _installed(distribution: str) -> bool:
    with contextlib.suppress(metadata.PackageNotFoundError):
        metadata.version(distribution)
        return True
    return False


def _models() -> Iterator[Finding]:
    from animate_anyone.interop import catalog, source
    from animate_anyone.models.folder import check_classes, check_weights, model_folder, networks_of
    from animate_anyone.models.shipped import INDEX, SHIPPED

    for name in SHIPPED:
        try:
            folder = model_folder(name)
            check_classes(folder)
            for part in networks_of(folder):
                check_weights(folder / part)
        except InputError as error:
            yield Finding(FAULT, f"model {name}: {error}", f"type: {REINSTALL}")
        else:
            yield Finding(OK, f"model {name}: shipped, whole")
    home = source.home()
    for entry in catalog.ENTRIES:
        folder = source.default_folder(entry)
        try:
            state = source.state(folder)
        except InputError as error:
            yield Finding(WARNING, f"weights {entry.name}: {error}")
            continue
        if state == "whole":
            yield Finding(OK, f"weights {entry.name}: whole, {folder}")
        elif state:
            mend = f"to go on, type: animate-anyone models pull {entry.name}"
            yield Finding(WARNING, f"weights {entry.name}: {state}, {folder}", mend)
    for index in sorted(home.glob(f"*/{INDEX}")) if home.is_dir() else ():
        yield Finding(OK, f"model folder {index.parent}")


def _room() -> Iterator[Finding]:
    import torch

    from animate_anyone.interop.source import home
    from animate_anyone.sampling.memory import memory_of, readable

    for what, folder, mend in (
        ("here", Path.cwd(), "make room, or work in another folder"),
        ("for temporary files", Path(tempfile.gettempdir()), "make room, or set TMPDIR to a folder that has it"),
        ("for weights", home(), "make room, or set ANIMATE_ANYONE_HOME to a folder that has it"),
    ):
        exists = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(exists).free
        line = f"disk {what}, {folder}: {readable(free)} free"
        if not os.access(exists, os.W_OK):
            yield Finding(WARNING, f"{line}, and it cannot be written", mend.replace("make room, or ", ""))
        else:
            yield Finding(WARNING, line, mend) if free < LOW_DISK else Finding(OK, line)
    memory = memory_of(torch.device("cpu"))
    if memory is None:
        yield Finding(OK, "memory: not known on this system")
        return
    line = f"memory: {readable(memory[0])} of {readable(memory[1])} free"
    mend = f"end other programs: {readable(LOW_MEMORY)} are needed at 512 pixels; --dry-run says what a video needs"
    yield Finding(WARNING, line, mend) if memory[0] < LOW_MEMORY else Finding(OK, line)


def _self_test(device: str) -> Iterator[Finding]:
    """A studio character of 128x128, moved through three frames of its own, written and read again."""
    from animate_anyone.evaluation.image_metrics import psnr
    from animate_anyone.media import read_frames, write_picture
    from animate_anyone.sampling.placement import choose_device
    from animate_anyone.sampling.quiet import quiet_model_libraries
    from animate_anyone.synthetic.dataset import sample_clip
    from animate_anyone.workflows.animate import Settings, animate

    quiet_model_libraries()
    place = choose_device(device)
    began = time.monotonic()
    clip = sample_clip(0, split="held_out", num_frames=3, size=(128, 128), motion="dance", supersample=1)
    truth = clip.frames.cpu().numpy()
    with tempfile.TemporaryDirectory(prefix="animate-anyone-doctor-") as name:
        folder = Path(name)
        write_picture(folder / "character.png", truth[0])
        clip.pose.save(folder / "dance.npz")
        settings = Settings(device=device)
        animate(
            folder / "character.png", folder / "dance.npz", folder / "out.mp4", settings, character_pose=clip.pose[:1]
        )
        made = [frame for _, frame in read_frames(folder / "out.mp4")]
    what = f"self-test: {len(made)} frames of 128x128 on {place} in {time.monotonic() - began:.1f} s"
    if [frame.shape for frame in made] != [frame.shape for frame in truth]:
        yield Finding(FAULT, f"{what}; {len(truth)} of 128x128 were to come", f"type: {REINSTALL}")
        return
    near = min(psnr(one, other) for one, other in zip(made, truth, strict=True))
    line = f"{what}, {near:.1f} dB from the truth at worst"
    if near < _WORST:
        mend = f"at least {_WORST:g} dB were to come; with --device cpu it can be seen whether the GPU is to blame"
        yield Finding(FAULT, line, mend)
    else:
        yield Finding(OK, line)
