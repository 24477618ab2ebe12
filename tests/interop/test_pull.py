"""Pulling published weights from a hub that breaks off, lies, moves on or is not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

import animate_anyone
from animate_anyone.errors import InputError
from animate_anyone.interop import catalog, pull, source, web_file
from animate_anyone.progress import SILENT, Progress
from small_hub import LARGE_SIZE, SmallHub, content, sha256

MOORE = catalog.find("moore")
MAIN = "patrolli/AnimateAnyone"
LARGE = [*catalog.NETWORKS, "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "image_encoder/pytorch_model.bin"]
SMALL = ["stable-diffusion-v1-5/unet/config.json", "sd-vae-ft-mse/config.json", "image_encoder/config.json"]


@pytest.fixture
def small_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A hub on loopback that is asked in place of the real one; no other address can be found."""
    find = socket.getaddrinfo

    def only_loopback(host: Any, *arguments: Any, **options: Any) -> Any:
        assert host in ("127.0.0.1", b"127.0.0.1"), f"the test asked for {host}"
        return find(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    # huggingface_hub read its settings when it was imported, whoever imported it.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pull, "PAUSE", 0.0)
    close_session()
    with SmallHub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setattr(web_file, "address_of", running.address_of)
        yield running
    close_session()


def run(folder: Path, revision: str | None = None, progress: Progress = SILENT) -> pull.Plan:
    """Pull Moore's weights; returns what was planned."""
    what = pull.plan(MOORE, folder, revision)
    pull.fetch(what, progress)
    return what


def names(folder: Path) -> set[str]:
    """Every file in a folder."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_pull(small_hub: SmallHub, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "moore"
    what = pull.plan(MOORE, folder)
    assert not folder.exists()  # a plan writes nothing
    text = "\n".join(what.lines)
    assert f"{MAIN} at {'a' * 12}, licence: Apache-2.0" in text
    assert f"denoising_unet.pth  {LARGE_SIZE // 1000} kB" in text
    assert f"to download: 9 files, 1.8 MB, from {small_hub.address}" in text
    assert f"into {folder}" in text
    done = pull.fetch(what)
    assert done == [f"moore: whole, digests checked, in {folder}"]
    assert names(folder) == {*LARGE, *SMALL, source.NAME}  # no README, no half file
    assert not (folder / pull.UNDERWAY).exists()
    for name in catalog.NETWORKS:
        assert (folder / name).read_bytes() == content(MAIN, name)
    record = json.loads((folder / source.NAME).read_text())
    assert record["name"] == "moore"
    for repository in record["repositories"]:
        assert repository["commit"] == "a" * 40
        for file in repository["files"]:
            data = (folder / repository["into"] / file["path"]).read_bytes()
            assert (file["sha256"], file["size"]) == (sha256(data), len(data))
    assert source.state(folder) == "whole"


def test_a_second_pull_checks_and_asks_nobody(small_hub: SmallHub, tmp_path: Path) -> None:
    run(tmp_path)
    small_hub.asked.clear()
    assert not run(tmp_path).missing
    assert small_hub.asked == []
    damaged = tmp_path / "motion_module.pth"
    damaged.write_bytes(b"x" * LARGE_SIZE)  # the size is right
    assert run(tmp_path).missing == {"motion_module.pth"}
    assert damaged.read_bytes() == content(MAIN, "motion_module.pth")
    assert small_hub.fetched() == ["motion_module.pth"]


def test_a_cut_is_gone_on_from_at_once(small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.cut["reference_unet.pth"] = [100_000, 50_000]
    run(tmp_path)
    assert (tmp_path / "reference_unet.pth").read_bytes() == content(MAIN, "reference_unet.pth")
    assert small_hub.sent["reference_unet.pth"] == LARGE_SIZE  # not a byte twice
    ranges = [r for _, path, r in small_hub.asked if path.startswith("/content/") and "reference_unet" in path]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_pull_goes_on_from_a_cut(small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.cut["reference_unet.pth"] = [200_000, *[0] * pull.ATTEMPTS]
    with pytest.raises(InputError, match=r"200 kB of 300 kB of reference_unet\.pth came and are kept") as error:
        run(tmp_path)
    assert "animate-anyone models pull moore" in one_line(error)
    assert not (tmp_path / "reference_unet.pth").exists()
    assert source.state(tmp_path) == "partly here"
    # Meanwhile main moves; what was begun is finished.
    small_hub.move_main(MAIN, "b" * 40, **{"reference_unet.pth": b"other"})
    what = run(tmp_path)
    assert "(200 kB of them came before)" in "\n".join(what.lines)
    assert what.download == sum((tmp_path / name).stat().st_size for name in what.missing) - 200_000
    assert (tmp_path / "reference_unet.pth").read_bytes() == content(MAIN, "reference_unet.pth")
    assert small_hub.sent["reference_unet.pth"] == LARGE_SIZE
    assert small_hub.sent["denoising_unet.pth"] == LARGE_SIZE
    assert names(tmp_path) == {*LARGE, *SMALL, source.NAME}


def test_a_server_without_ranges_sends_all_again(small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.ranges = False
    small_hub.cut["denoising_unet.pth"] = [100_000]
    run(tmp_path)
    assert (tmp_path / "denoising_unet.pth").read_bytes() == content(MAIN, "denoising_unet.pth")
    assert small_hub.sent["denoising_unet.pth"] == 100_000 + LARGE_SIZE


def test_a_busy_server_is_asked_again(small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.busy = pull.ATTEMPTS - 1
    run(tmp_path)
    shutil.rmtree(tmp_path)
    small_hub.busy = 100
    with pytest.raises(InputError, match="it answers with status 503") as error:
        run(tmp_path)
    assert "denoising_unet.pth" in one_line(error)


class Interrupt(Progress):
    """Somebody presses Ctrl-C in the first file that comes, after its first piece."""

    def track(self, items: Iterable[Any], total: int | None = None, description: str = "") -> Iterator[Any]:
        for item in items:
            yield item
            raise KeyboardInterrupt


def test_an_interrupt_keeps_what_came(small_hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK", 65536)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Interrupt())
    assert not any((tmp_path / name).exists() for name in LARGE)
    small_hub.sent.clear()
    what = run(tmp_path)
    assert 0 < what.partial < LARGE_SIZE
    assert small_hub.sent["denoising_unet.pth"] == LARGE_SIZE - what.partial


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("pose_guider.pth", b"x" * LARGE_SIZE, r"pose_guider\.pth came with digest [0-9a-f]{12}…, the hub states"),
        ("pose_guider.pth", b"x" * (LARGE_SIZE + 1), r"pose_guider\.pth is longer than the 300000 bytes stated"),
        ("config.json", None, r"config\.json came with digest"),
    ],
)
def test_wrong_bytes_are_refused(
    small_hub: SmallHub, tmp_path: Path, path: str, data: bytes | None, message: str
) -> None:
    small_hub.spoilt[path] = data or bytes(len(content("stabilityai/sd-vae-ft-mse", path)))
    with pytest.raises(InputError, match=message) as error:
        run(tmp_path)
    assert "not kept" in one_line(error)
    assert not list(tmp_path.rglob(path)) or path == "config.json"
    assert not any(part.stat().st_size for part in (tmp_path / pull.UNDERWAY).iterdir())
    small_hub.spoilt.clear()
    run(tmp_path)  # nothing of the wrong bytes is gone on from
    assert source.state(tmp_path) == "whole"
    assert names(tmp_path) == {*LARGE, *SMALL, source.NAME}


def test_a_recorded_commit_is_kept_until_another_is_asked_for(small_hub: SmallHub, tmp_path: Path) -> None:
    run(tmp_path)
    small_hub.move_main(MAIN, "b" * 40, **{"pose_guider.pth": b"newer"})
    (tmp_path / "pose_guider.pth").unlink()
    run(tmp_path)
    assert (tmp_path / "pose_guider.pth").read_bytes() == content(MAIN, "pose_guider.pth")
    what = run(tmp_path, revision="main")
    assert what.missing == {"pose_guider.pth"}
    assert (tmp_path / "pose_guider.pth").read_bytes() == b"newer"
    record = source.read(tmp_path)
    assert record is not None
    assert [p.commit[0] for p in record.pinned] == ["b", "a", "a", "a"]
    run(tmp_path, revision="a" * 40)
    assert (tmp_path / "pose_guider.pth").read_bytes() == content(MAIN, "pose_guider.pth")


def test_offline(small_hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids") as error:
        run(tmp_path / "moore")
    assert "type: HF_HUB_OFFLINE=0 animate-anyone models pull moore" in one_line(error)
    assert small_hub.asked == [] and not (tmp_path / "moore").exists()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    run(tmp_path / "moore")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not run(tmp_path / "moore").missing  # what is here whole needs nobody
    (tmp_path / "moore" / "pose_guider.pth").unlink()
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids"):
        run(tmp_path / "moore")


def test_an_endpoint_that_is_not_there(small_hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        with pytest.raises(InputError, match=r"http://127\.0\.0\.1:\d+ cannot be reached") as error:
            run(tmp_path / "moore")
    assert "HF_ENDPOINT=https://MIRROR animate-anyone models pull moore" in one_line(error)
    for nonsense in ("mirror", "ftp://mirror", "https://", "http://a:b"):
        monkeypatch.setenv("HF_ENDPOINT", nonsense)
        with pytest.raises(InputError, match=f"HF_ENDPOINT is {nonsense}; give an address"):
            run(tmp_path / "moore")
    assert not (tmp_path / "moore").exists()


@pytest.mark.parametrize(
    ("change", "revision", "message"),
    [
        (lambda h: h.commits.pop(MAIN), None, f"{MAIN}: http://127.* has no such repository"),
        (lambda h: None, "gone", f"{MAIN}: has no revision gone; give a branch"),
        (lambda h: h.commits[MAIN]["a" * 40].pop("motion_module.pth"), None, r"revision main holds no motion_module"),
    ],
)
def test_what_the_hub_does_not_have(
    small_hub: SmallHub, tmp_path: Path, change: Any, revision: str | None, message: str
) -> None:
    change(small_hub)
    with pytest.raises(InputError, match=message) as error:
        run(tmp_path / "moore", revision)
    one_line(error)
    assert not (tmp_path / "moore").exists()


def test_a_path_that_leads_out_is_refused(small_hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = catalog.Entry("wild", "", (catalog.Source("some/body", ("*.pth",), 1, "computed", "none"),))
    small_hub.commits["some/body"] = {"a" * 40: {"../../out.pth": b"x"}}
    with pytest.raises(InputError, match=r"\.\./\.\./out\.pth leads out of the folder"):
        pull.plan(wild, tmp_path / "wild")


def test_a_record_makes_the_same_folder_elsewhere(small_hub: SmallHub, tmp_path: Path) -> None:
    run(tmp_path / "here")
    small_hub.move_main(MAIN, "b" * 40, **{"pose_guider.pth": b"newer"})
    small_hub.asked.clear()
    (tmp_path / "there").mkdir()
    shutil.copy(tmp_path / "here" / source.NAME, tmp_path / "there")
    run(tmp_path / "there")
    assert names(tmp_path / "there") == names(tmp_path / "here")
    assert source.read(tmp_path / "there") == source.read(tmp_path / "here")
    assert not any(path.startswith("/api/") for _, path, _ in small_hub.asked)  # nobody was asked what main is


def test_a_file_that_is_wanted_later_comes_from_the_recorded_commit(small_hub: SmallHub, tmp_path: Path) -> None:
    run(tmp_path)
    small_hub.move_main(MAIN, "b" * 40, **{"pose_guider.pth": b"newer"})
    record = json.loads((tmp_path / source.NAME).read_text())
    files = record["repositories"][0]["files"]
    files[:] = [file for file in files if file["path"] != "pose_guider.pth"]  # as if pulled when it was not known
    (tmp_path / source.NAME).write_text(json.dumps(record))
    (tmp_path / "pose_guider.pth").unlink()
    assert run(tmp_path).missing == {"pose_guider.pth"}
    assert (tmp_path / "pose_guider.pth").read_bytes() == content(MAIN, "pose_guider.pth")


@pytest.mark.parametrize(
    ("what", "to"), [("path", "../out.pth"), ("path", "/out.pth"), ("into", "../.."), ("sha256", "../x")]
)
def test_a_record_that_leads_out_is_refused(small_hub: SmallHub, tmp_path: Path, what: str, to: str) -> None:
    run(tmp_path)
    record = json.loads((tmp_path / source.NAME).read_text())
    repository = record["repositories"][0]
    (repository if what == "into" else repository["files"][0])[what] = to
    (tmp_path / source.NAME).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"source\.json: cannot be read"):
        run(tmp_path)


def test_too_little_room(small_hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    free = pull.SPARE + 1_800_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free))
    with pytest.raises(InputError, match=r"1\.8 MB are to come and 65\.8 MB are free there; make room") as error:
        run(tmp_path / "moore")
    one_line(error)
    assert not (tmp_path / "moore").exists() and not small_hub.fetched()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free + 1000))
    run(tmp_path / "moore")


def test_other_peoples_files_are_left_alone(small_hub: SmallHub, tmp_path: Path) -> None:
    (tmp_path / "pose_guider.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"pose_guider\.pth: is there, and is another file than moore's") as error:
        run(tmp_path)
    one_line(error)
    assert names(tmp_path) == {"pose_guider.pth"}
    # The same file, downloaded by hand, is taken over.
    (tmp_path / "pose_guider.pth").write_bytes(content(MAIN, "pose_guider.pth"))
    run(tmp_path)
    assert "pose_guider.pth" not in small_hub.fetched()
    with pytest.raises(InputError, match="holds moore; give another --output for novita"):
        pull.plan(catalog.find("novita"), tmp_path)
    (tmp_path / source.NAME).write_text("{")
    with pytest.raises(InputError, match=r"source\.json: cannot be read"):
        run(tmp_path)


def test_every_entry_can_be_pulled(small_hub: SmallHub, tmp_path: Path) -> None:
    for known in catalog.ENTRIES:
        entry = small_hub.as_it_is_here(known)
        what = pull.plan(entry, tmp_path / entry.name)
        assert (f"warning: {entry.warning}" in what.lines) == (entry.warning is not None)
        pull.fetch(what)
        assert source.state(tmp_path / entry.name) == "whole"
    assert "warning" in "\n".join(pull.plan(catalog.find("musepose"), tmp_path / "musepose").lines)
    assert (tmp_path / "musepose" / "MusePose" / "denoising_unet.pth").is_file()
    assert (tmp_path / "musepose" / "sd-image-variations-diffusers" / "unet" / "config.json").is_file()


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="mose: no weights of that name are known; did you mean musepose"):
        catalog.find("mose")
    with pytest.raises(InputError, match="there are: puppet, moore, novita, musepose"):
        catalog.find("xyzzy", ("puppet",))


def test_where_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANIMATE_ANYONE_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert source.home() == Path.home() / ".cache" / "animate-anyone"
    monkeypatch.setenv("XDG_CACHE_HOME", "/big/cache")
    assert source.default_folder(MOORE) == Path("/big/cache/animate-anyone/moore")
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", "/big/weights")
    assert source.default_folder(MOORE) == Path("/big/weights/moore")


def command(small_hub: SmallHub, home: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line in a process of its own: huggingface_hub reads the real environment there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "COV_"))}
    environment |= {
        "HF_ENDPOINT": small_hub.address,
        "HF_HOME": str(home / "hf"),
        "ANIMATE_ANYONE_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(Path(animate_anyone.__file__).parents[1]),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "animate_anyone.cli.main", "models", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_stopped_and_typed_again(small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.stop_after = 100_000
    stopped = command(small_hub, tmp_path, "pull", "musepose")
    assert small_hub.standing.wait(60)
    for _ in range(600):
        if any(part.stat().st_size for part in tmp_path.rglob("*.part")):
            break
        time.sleep(0.1)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert "what came so far is kept; type the same command to go on" in err
    assert "Traceback" not in err
    assert "warning: the weights are for non-commercial research only" in out
    assert out.index("warning") < out.index("to download: ")  # said before
    assert not list(tmp_path.rglob("*.pth"))
    (kept,) = [part.stat().st_size for part in tmp_path.rglob("*.part")]
    assert 0 < kept <= 100_000
    first = small_hub.fetched()[0]
    small_hub.stop_after = None
    small_hub.sent.clear()
    again = command(small_hub, tmp_path, "pull", "musepose")
    out, err = again.communicate(timeout=60)
    assert (again.returncode, err) == (0, "")
    assert out.endswith("type: animate-anyone models convert musepose -o FOLDER\n")
    folder = tmp_path / "musepose" / "MusePose"
    for name in catalog.NETWORKS:
        assert (folder / name).read_bytes() == content("TMElyralab/MusePose", f"MusePose/{name}")
    assert small_hub.sent[first] == LARGE_SIZE - kept


def test_the_commands_mistakes(small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.spoilt["diffusion_pytorch_model.safetensors"] = b"x" * LARGE_SIZE
    run_ = command(small_hub, tmp_path, "pull", "sd-vae-ft-mse")
    _, err = run_.communicate(timeout=60)
    assert run_.returncode == 2
    assert err.startswith("error: stabilityai/sd-vae-ft-mse: diffusion_pytorch_model.safetensors came with digest ")
    assert err.count("\n") == 1
