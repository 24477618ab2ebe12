"""The page served and called by a program: every action has a name; and what an attacker would try."""

from __future__ import annotations

import gc
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import quick_work
from serving import free_port

from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.web.jobs import CANCELLED, DONE, FAILED, RUNNING
from animate_anyone.web.limits import Limits

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'animate-anyone[web]'")
from gradio_client import Client, handle_file  # type: ignore[import-untyped]

from animate_anyone.web.serve import Running, Server

LONG = 60.0


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page") / "results"
    page = Running(Server(folder, port=free_port(), limits=Limits(megabytes=1, waiting=60)), quick_work.do)
    yield page
    page.close()
    assert not list(page.queue.work_folder.iterdir())


@pytest.fixture(scope="module")
def client(page: Running) -> Any:
    return Client(page.address, verbose=False, download_files=False)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    write_picture(folder / "me.png", np.zeros((64, 64, 3), np.uint8))
    (folder / "bad.png").write_bytes(b"bad")
    with VideoWriter(folder / "dance.mp4", (64, 64), 12) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
    return {"character": handle_file(folder / "me.png"), "video": handle_file(folder / "dance.mp4")}


def bad(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs | {"character": handle_file(Path(inputs["character"]["path"]).with_name("bad.png"))}


def until_over(client: Any, name: str) -> dict[str, Any]:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        told = client.predict(name, api_name="/job")
        if told["status"] in (DONE, FAILED, CANCELLED):
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_every_action_has_a_name(client: Any) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    verbs = [f"{kind}{verb}" for verb in ("animate", "replace") for kind in ("", "plan_", "understand_", "example_")]
    assert set(named) == {f"/{name}" for name in (*verbs, "poses", "model", "job", "jobs", "cancel", "result")}


@pytest.mark.parametrize("verb", ["animate", "replace"])
def test_a_program_makes_a_video(client: Any, page: Running, inputs: dict[str, Any], verb: str) -> None:
    name = client.predict(**inputs, seed=4, api_name=f"/{verb}")
    told = until_over(client, name)
    assert (told["status"], told["verb"], told["settings"]["seed"]) == (DONE, verb, 4)
    assert told["lines"] == ["person found in 8 of 8 frames", "a <b>bold</b> line"]
    files = client.predict(name, api_name="/result")
    assert [Path(file["path"]).name for file in files] == ["result.mp4", "result.mp4.json"]
    with urllib.request.urlopen(files[0]["url"]) as answer:
        assert answer.read() == (page.queue.results_folder / name / "result.mp4").read_bytes()
    assert client.predict(api_name="/jobs")[0]["id"] == name


def test_plans_and_looks_are_jobs_too(client: Any, inputs: dict[str, Any]) -> None:
    for action in ("/plan_animate", "/understand_replace"):
        assert until_over(client, client.predict(**inputs, api_name=action))["status"] == DONE


def test_mistakes_are_one_line(client: Any, inputs: dict[str, Any]) -> None:
    for given, action, said in (
        ({}, "/animate", "a picture of the character is missing"),
        (inputs | {"more": "x"}, "/animate", "no JSON object"),
        ({"name": "../../etc"}, "/job", "there is no such job"),
        ({"name": "nobody"}, "/cancel", "there is no such job"),
        ({"model": "/etc/passwd"}, "/model", "there is no such model here|not in the list"),
    ):
        with pytest.raises(Exception, match=said) as raised:
            client.predict(**given, api_name=action)
        assert "Traceback" not in str(raised.value)


def test_fifty_jobs_with_cancels_and_bad_files(client: Any, page: Running, inputs: dict[str, Any]) -> None:
    server, memory, told = psutil.Process(), [], []
    for number in range(50):
        given = bad(inputs) if number % 5 == 1 else inputs
        seed = quick_work.NEVER if number % 5 == 3 else 0
        name = client.predict(**given, seed=seed, api_name="/animate")
        if seed:
            end = time.monotonic() + LONG
            while client.predict(name, api_name="/job")["status"] != RUNNING and time.monotonic() < end:
                time.sleep(0.02)
            told.append(client.predict(name, api_name="/cancel"))
        else:
            told.append(until_over(client, name))
        gc.collect()
        memory.append(server.memory_info().rss)
    statuses = [one["status"] for one in told]
    assert [statuses.count(status) for status in (DONE, FAILED, CANCELLED)] == [30, 10, 10]
    assert not list(page.queue.work_folder.iterdir())
    assert memory[-1] < 1.1 * memory[9]


def asked(page: Running, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(page.address + path, data, sent)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "{folder}/../secret.txt",
        "{folder}/.animate-anyone-web.lock",
        "{folder}/results/../../secret.txt",
        "{folder}/work",
        __file__,
        "pyproject.toml",
        "http://127.0.0.1:1/x",
        "http%3A//127.0.0.1:1/x",
    ],
)
def test_nothing_else_is_served(page: Running, path: str) -> None:
    (page.queue.folder.parent / "secret.txt").write_text("words of somebody")
    status, answer = asked(page, "gradio_api/file=" + path.format(folder=page.queue.folder))
    assert status in (403, 404)
    assert b"root:" not in answer and b"words of" not in answer and answer.count(b"\n") <= 1


def test_a_file_of_the_server_or_of_another_one_is_no_upload(client: Any, page: Running) -> None:
    for path in ("/etc/passwd", "http://127.0.0.1:1/me.png", str(page.queue.folder / ".animate-anyone-web.lock")):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        status, answer = asked(page, "gradio_api/call/animate", {"data": [file, file]})
        if status == 200:
            event = json.loads(answer)["event_id"]
            status, answer = asked(page, f"gradio_api/call/animate/{event}")
            assert b"event: error" in answer, answer
        assert b"root:" not in answer
    assert all(job["kind"] for job in client.predict(api_name="/jobs"))


def test_another_site_is_not_answered(page: Running) -> None:
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        status, answer = asked(page, "gradio_api/call/jobs", {"data": []}, **headers)
        assert (status, answer.count(b"\n")) == (403, 1)


def test_a_large_upload_is_refused(client: Any, inputs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(bytes(1_500_000))
    with pytest.raises(Exception, match=r"(?i)413|maximum|too large|exceeds"):
        client.predict(**inputs | {"video": handle_file(tmp_path / "large.mp4")}, api_name="/animate")


def test_who_has_no_password_sees_nothing(tmp_path: Path) -> None:
    page = Running(Server(tmp_path / "r", port=free_port(), auth=(("ann", "secret"),)), quick_work.do)
    try:
        for path in ("config", "gradio_api/info", "gradio_api/queue/join", "gradio_api/call/jobs"):
            assert asked(page, path, {"data": []} if "api" in path and "info" not in path else None)[0] in (401, 403)
        with pytest.raises(Exception, match=r"(?i)401|auth|credentials"):
            Client(page.address, verbose=False)
        assert Client(page.address, auth=("ann", "secret"), verbose=False).predict(api_name="/jobs") == []
    finally:
        page.close()


def test_a_port_that_is_taken_is_one_line(page: Running, tmp_path: Path) -> None:
    port = int(page.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(InputError, match="cannot listen there"):
        Running(Server(tmp_path / "r", port=port), quick_work.do)
    assert not (tmp_path / "r").exists()
