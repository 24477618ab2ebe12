"""How a command ends: by signals, with streams that are full or closed, and run as a module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.cli.streams import Printed
from animate_anyone.system.signals import WORDS

posix = pytest.mark.skipif(os.name != "posix", reason="signals and locks as POSIX has them")
CAUGHT = """
import sys, time
from animate_anyone.system.signals import Signals, Stopped
signals = Signals()
signals.catch()
{body}
"""


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *command], timeout=120, **{"capture_output": True, **options})


def told(body: str, number: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run lines of Python with signals caught; send one at the first line of output."""
    process = subprocess.Popen(
        [sys.executable, "-c", CAUGHT.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # whoever runs the tests may ignore it: nohup
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


@posix
@pytest.mark.parametrize("module", ["animate_anyone", "animate_anyone.cli", "animate_anyone.cli.main"])
def test_run_as_a_module(module: str) -> None:
    result = run("-m", module, "--help")
    assert result.returncode == 0
    assert b"animate" in result.stdout


@posix
def test_nothing_heavy_is_imported_before_signals_are_caught() -> None:
    script = "import sys, animate_anyone.cli.main; print(*sys.modules)"
    path = os.pathsep.join(filter(None, sys.path))
    loaded = run("-S", "-c", script, env={**os.environ, "PYTHONPATH": path}).stdout.decode().split()
    assert "animate_anyone.system.signals" in loaded
    assert not {"typing", "signal", "enum", "re", "threading", "pathlib", "typer"} & set(loaded)


@posix
def test_who_is_stopped_while_a_library_is_silenced_says_so(tmp_path: Path) -> None:
    """Descriptor 2 leads elsewhere, and the second signal does not wait for the block that leads it back."""
    body = """
import os
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
for _ in range(2):
    try:
        os.kill(os.getpid(), 15)
        time.sleep(60)
    except Stopped:
        pass
"""
    result = run("-c", CAUGHT.format(body=body), cwd=tmp_path)
    assert result.returncode == 128 + signal.SIGTERM
    assert result.stderr.decode() == "stopped; nothing half-written is left\n"


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_unwinds(name: str, tmp_path: Path) -> None:
    body = """
try:
    print("began", flush=True)
    time.sleep(60)
except Stopped:
    print("unwound", signals.caught)
"""
    number = getattr(signal, name)
    assert told(body, number, tmp_path).stdout == f"unwound {number:d}\n"


@posix
def test_a_signal_that_is_swallowed_comes_again(tmp_path: Path) -> None:
    """As libraries do: an exception that goes nowhere, in a destructor and in a handler for all of them."""
    body = """
class Odd:
    def __del__(self):
        print("began", flush=True)
        time.sleep(60)
try:
    Odd()
    try:
        while True:
            time.sleep(0.01)
    except:
        pass
    time.sleep(60)
except Stopped:
    sys.exit(128 + signals.caught)
"""
    result = told(body, signal.SIGINT, tmp_path)
    assert (result.returncode, result.stderr) == (130, "")


@posix
def test_a_signal_during_an_import_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(
        "import time\ntry:\n print('began', flush=True)\n time.sleep(60)\nexcept BaseException:\n pass\n"
    )
    result = told("import greedy; print('went on')", signal.SIGINT, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", f"{WORDS}\n")


@posix
def test_the_clean_up_is_not_disturbed_but_by_a_second_signal(tmp_path: Path) -> None:
    """Being told again does not end a block that is ending; a second signal from outside ends the process."""
    body = """
signals.remove_unfinished = lambda: print("removed", flush=True)
try:
    print("began", flush=True)
    time.sleep(60)
finally:
    time.sleep(0.7)
    print("ended", flush=True)
    __import__("os").kill(__import__("os").getpid(), 2)
    time.sleep(60)
"""
    result = told(body, signal.SIGTERM, tmp_path)
    assert (result.returncode, result.stdout) == (143, "ended\nremoved\n")


@posix
def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As ``nohup`` starts a command."""
    script = (
        "import os, signal, subprocess, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"
    )
    body = CAUGHT.format(body="import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('went on')")
    assert run("-c", script, body).stdout == b"went on\n"


@posix
def test_a_signal_after_the_end_changes_nothing(tmp_path: Path) -> None:
    body = "signals.end(0); print('began', flush=True); time.sleep(60)"
    result = told(body, signal.SIGTERM, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_letters_that_the_terminal_has_not() -> None:
    script = (
        "from animate_anyone.cli.streams import standard_streams\n"
        "with standard_streams():\n print('\\u8a9e.mp4: 3\\xd73 \\udc80')"
    )
    result = run("-c", script, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, b"\\u8a9e.mp4: 3\xd73 \\udc80", b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_mistake_with_such_a_name(encoding: str, tmp_path: Path) -> None:
    command = ["-m", "animate_anyone", "report", "\u8a9e\n.json"]
    result = run(*command, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: \\u8a9e\\n.json: ")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_full_streams() -> None:
    with open("/dev/full", "w") as full:
        result = run(
            "-m", "animate_anyone", "models", "list", capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
        assert result.returncode == 2
        assert result.stderr.startswith(b"error: standard output cannot be written (No space left on device)")
        assert result.stderr.count(b"\n") == 1
        result = run("-m", "animate_anyone", "report", "none", capture_output=False, stdout=full, stderr=full)
        assert result.returncode == 2


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    script = f'exec "{sys.executable}" -m animate_anyone models list {closed}'
    result = subprocess.run(["sh", "-c", script], capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")


@posix
def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what libraries in C print on it ends up in the file."""
    body = (
        "from animate_anyone.cli.streams import standard_streams\n"
        "with standard_streams(), open('file', 'w') as file:\n assert file.fileno() > 2, file.fileno()"
    )
    (tmp_path / "script.py").write_text(body)
    script = f'"{sys.executable}" script.py <&- >&- 2>errors; s=$?; cat errors; exit $s'
    result = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, b"")


@posix
def test_a_reader_that_has_seen_enough() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = run("-m", "animate_anyone", "models", "list", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_stream_that_fails_once_is_let_go() -> None:
    class Failing:
        tried = 0

        def write(self, text: str) -> int:
            self.tried += 1
            raise OSError(28, "No space left on device")

        def fileno(self) -> int:
            raise OSError

    failing = Failing()
    stream = Printed(failing)  # type: ignore[arg-type]
    assert [stream.write("one"), stream.write("two")] == [3, 3]
    stream.flush()
    assert failing.tried == 1
    assert stream.error is not None and stream.error.errno == 28


@posix
def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    """SIGKILL leaves a hidden file; whoever writes the same result next removes it, but not one that is in use."""
    from animate_anyone.system.whole_files import whole_file

    script = (
        "import sys, time; from animate_anyone.system.whole_files import whole_file\n"
        "with whole_file('out.txt') as part:\n part.write_text('half'); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (used,) = tmp_path.iterdir()
    with whole_file(tmp_path / "out.txt") as part:
        assert part != used and used.exists()
        part.write_text("whole")
    assert {f.name for f in tmp_path.iterdir()} == {used.name, "out.txt"}
    process.kill()
    process.wait()
    with whole_file(tmp_path / "out.txt") as part:
        assert part == used
        part.write_text("whole again")
    assert [f.name for f in tmp_path.iterdir()] == ["out.txt"]


def test_nowhere_for_temporary_files(tmp_path: Path) -> None:
    """Said before any work, in one line; what needs none goes on."""
    script = (
        "import sys, tempfile\n"
        "def nowhere():\n raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "tempfile._get_default_tempdir = nowhere\n"
        "from animate_anyone.cli.main import main\nmain()"
    )
    # What imports PyTorch's compiler tells its child processes where its cache is.
    env = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    result = run("-c", script, "animate", "me.png", "--driving", "dance.mp4", "-o", "out.mp4", cwd=tmp_path, env=env)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"error: there is no folder for temporary files; set TMPDIR to one with room in it\n"
    assert not list(tmp_path.iterdir())
    assert run("-c", script, "models", "list", cwd=tmp_path).returncode == 0
