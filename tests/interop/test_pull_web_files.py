"""Pulling the networks of measures, which lie at addresses of their own: as from the hub, with less that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from animate_anyone.errors import InputError
from animate_anyone.evaluation import weights
from animate_anyone.interop import catalog, pull, source, web_file
from small_hub import LARGE_SIZE, SmallHub, sha256

VGG, LPIPS, I3D = catalog.VGG, catalog.LPIPS, catalog.I3D


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallHub]:
    """Holds every file; no other address is asked."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("ANIMATE_ANYONE_METRICS", raising=False)
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(pull, "PAUSE", 0.0)
    close_session()
    with SmallHub() as running:
        monkeypatch.setattr(web_file, "address_of", running.address_of)
        yield running
    close_session()


def run(server: SmallHub, name: str, folder: Path) -> pull.Plan:
    what = pull.plan(server.as_it_is_here(catalog.find(name)), folder)
    pull.fetch(what)
    return what


def test_what_is_pulled_is_found_by_its_measure(server: SmallHub) -> None:
    folder = weights.weights_folder()
    for metric, files in weights.SOURCES.items():
        name = metric.replace("_", "-")
        told = weights.needed(metric, folder)
        assert told == f"needs {' and '.join(f.name for f in files)}; type: animate-anyone models pull {name}"
        place = source.default_folder(catalog.find(name))
        assert place == folder / name
        run(server, name, place)
        assert source.state(place) == "whole" and weights.needed(metric, folder) is None
        for file in files:
            assert weights.file_of(file, folder).read_bytes() == server.web[file.url]
    assert not any(path.startswith("/api/") for _, path, _ in server.asked)  # the hub is not asked


def test_what_a_plan_says(server: SmallHub, tmp_path: Path) -> None:
    text = "\n".join(pull.plan(server.as_it_is_here(catalog.find("lpips")), tmp_path / "lpips").lines)
    assert f"  {VGG.url}, licence: BSD-3-Clause" in text
    assert "to download: 2 files, 600 kB, from the addresses above" in text
    assert server.asked == []  # sizes go with the known digests
    assert "1 files, 300 kB" in "\n".join(pull.plan(catalog.find("fvd"), tmp_path / "fvd").lines)
    assert [range_ for _, _, range_ in server.asked] == ["bytes=0-0"]
    done = pull.fetch(pull.plan(catalog.find("fvd"), tmp_path / "fvd"))
    assert done == [f"fvd: whole, nobody states a digest of {I3D.name}: checked when read, in {tmp_path / 'fvd'}"]
    assert not (tmp_path / "lpips").exists()


def test_known_digests_are_checked(server: SmallHub, tmp_path: Path) -> None:
    server.spoilt[VGG.url] = b"x" * LARGE_SIZE
    with pytest.raises(InputError, match=r"vgg16-397923af\.pth came with digest [0-9a-f]{12}…, known is [0-9a-f]{12}…"):
        run(server, "lpips", tmp_path)
    assert not (tmp_path / VGG.name).exists()
    with pytest.raises(InputError, match=r"came with digest .*, known is 6726825d0af5"):
        pull.fetch(pull.plan(real_size(server, catalog.find("fid")), tmp_path / "fid"))
    server.spoilt.clear()
    run(server, "lpips", tmp_path)
    (tmp_path / LPIPS.name).write_bytes(b"y" * LARGE_SIZE)
    assert run(server, "lpips", tmp_path).missing == {LPIPS.name}
    assert (tmp_path / LPIPS.name).read_bytes() == server.web[LPIPS.url]


def real_size(server: SmallHub, entry: catalog.Entry) -> catalog.Entry:
    """An entry with its published digest, and content of its published size that is not it."""
    (file,) = entry.sources
    assert isinstance(file, catalog.WebFile)
    server.web[file.url] = bytes(file.size)
    return entry


def test_a_digest_that_nobody_stated_is_recorded_and_kept_to(server: SmallHub, tmp_path: Path) -> None:
    run(server, "fvd", tmp_path)
    record = source.read(tmp_path)
    assert record is not None
    (pinned,) = record.pinned
    assert pinned.files[0].sha256 == sha256(server.web[I3D.url]) and pinned.commit == ""
    server.asked.clear()
    assert not run(server, "fvd", tmp_path).missing and server.asked == []
    (tmp_path / I3D.name).write_bytes(b"z" * LARGE_SIZE)
    assert run(server, "fvd", tmp_path).missing == {I3D.name}
    server.web[I3D.url] = b"another file of that size"[:1] * LARGE_SIZE
    (tmp_path / I3D.name).unlink()
    with pytest.raises(InputError, match="if it happens twice, another file lies there now"):
        run(server, "fvd", tmp_path)


def test_a_cut_is_gone_on_from(server: SmallHub, tmp_path: Path) -> None:
    server.cut[VGG.url] = [100_000, *[0] * pull.ATTEMPTS]
    with pytest.raises(InputError, match=r"100 kB of 300 kB of vgg16.*came and are kept; download.pytorch.org cannot"):
        run(server, "lpips", tmp_path)
    assert not (tmp_path / VGG.name).exists() and source.state(tmp_path) == "partly here"
    server.sent.clear()
    assert run(server, "lpips", tmp_path).partial == 100_000
    assert server.sent[VGG.url] == LARGE_SIZE - 100_000
    server.cut[I3D.url] = [1, 50_000]  # of its size, then of itself
    server.busy = 1
    with pytest.raises(
        InputError, match=r"huggingface\.co cannot be reached .it answers with status 503.*models pull fvd"
    ):
        run(server, "fvd", tmp_path / "fvd")
    run(server, "fvd", tmp_path / "fvd")
    assert (tmp_path / "fvd" / I3D.name).read_bytes() == server.web[I3D.url]


def test_what_cannot_be_had(server: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del server.web[I3D.url]
    with pytest.raises(InputError, match=r"i3d_pretrained_400\.pt: its server refuses with status 404; put the file"):
        run(server, "fvd", tmp_path / "fvd")
    with pytest.raises(InputError, match="has no revisions; leave --revision out"):
        pull.plan(catalog.find("lpips"), tmp_path / "lpips", "main")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("fvd", "lpips"):
        with pytest.raises(InputError, match=f"type: HF_HUB_OFFLINE=0 animate-anyone models pull {name}"):
            run(server, name, tmp_path / name)
    assert not (tmp_path / "fvd").exists() and not (tmp_path / "lpips").exists()


def test_pinned_digests() -> None:
    """Those whose authors put digits of it into the name agree with it; of two nobody states one."""
    files = [file for entry in catalog.ENTRIES for file in entry.sources if isinstance(file, catalog.WebFile)]
    assert [file.name for file in files if file.sha256 is None] == [catalog.RESNET.name, I3D.name]
    for file in files:
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.url.startswith("https://") and file.licence
    for file, digits in ((VGG, "397923af"), (catalog.INCEPTION, "6726825d")):
        assert digits in file.name and str(file.sha256).startswith(digits)
