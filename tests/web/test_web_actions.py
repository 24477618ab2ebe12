"""What a visitor can order, marks made by clicks, and what the guard refuses; without a server."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick_work

from animate_anyone.errors import InputError
from animate_anyone.media import write_picture
from animate_anyone.perception.objects.marks_file import parse_objects
from animate_anyone.web.actions import Actions, stored_form
from animate_anyone.web.auth import read_auth
from animate_anyone.web.guard import HEADERS, LARGEST_BODY, Guard
from animate_anyone.web.jobs import DONE, JobQueue
from animate_anyone.web.limits import Limits, check_archive
from animate_anyone.web.marks import BOX, INSIDE, OUTSIDE, check_marks, clicked, drawn, person_at
from animate_anyone.web.work import settings_of

MODELS = {"animate": ["puppet"], "replace": ["puppet-environment"]}


@pytest.fixture
def actions(tmp_path: Path) -> Iterator[Actions]:
    queue = JobQueue(tmp_path / "page", quick_work.do, Limits(megabytes=1))
    yield Actions(queue, MODELS)
    queue.close()


@pytest.fixture
def form(tmp_path: Path) -> dict[str, Any]:
    for name in ("me.png", "dance.mp4"):
        (tmp_path / name).write_bytes(b"something")
    return {"character": str(tmp_path / "me.png"), "video": str(tmp_path / "dance.mp4"), "seed": 0.0}


def test_a_form_becomes_settings(actions: Actions, form: dict[str, Any]) -> None:
    more = '{"window": 24, "offload": "group"}'
    given = form | {"size": " 64x64 ", "steps": " 4", "fps": "", "guidance": "2.0", "align": False, "more": more}
    name = actions.video("make", "animate", given)
    wanted = {"model": "puppet", "size": "64x64", "steps": 4, "guidance": 2.0, "seed": 0, "align": False}
    job = actions.queue.wait(name, 60)
    assert job.settings == wanted | {"window": 24, "offload": "group"}
    assert settings_of("animate", job.settings).size == (64, 64)
    assert stored_form(job.settings, ["size", "seed"])["size"] == "64x64"
    assert json.loads(stored_form(job.settings, [*wanted])["more"]) == {"window": 24, "offload": "group"}
    assert actions.told(name)["status"] == DONE
    ((label, found),) = actions.history()
    assert found == name and "me.png + dance.mp4, seed 0" in label


def test_what_is_to_come_is_told_from_what_was(actions: Actions, form: dict[str, Any]) -> None:
    plan = actions.queue.wait(actions.video("plan", "animate", form), 60)
    assert actions.lines(plan) == ["clip: 8 frames"]
    actions.queue.wait(actions.video("make", "animate", form), 60)
    plan = actions.queue.wait(actions.video("plan", "animate", form), 60)
    assert actions.lines(plan)[1].startswith("time: about 0 s, if a frame takes as long")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"character": None}, "a picture of the character is missing"),
        ({"video": None}, "a video of somebody is missing"),
        ({"model": "/etc"}, "there is no model /etc here"),
        ({"steps": "many"}, "steps many: give a number"),
        ({"guidance": "nan"}, "guidance nan: give a number"),
        ({"more": "[1]"}, "no JSON object"),
        ({"more": '{"seed": 5}'}, "seed has a field of its own"),
        ({"more": '{"objects": "/etc/passwd"}'}, "objects has a field of its own"),
        ({"more": '{"model": "/etc"}'}, "there is no model /etc here"),
        ({"frames": "1" * 5000}, "5000 letters; at most"),
    ],
)
def test_what_is_not_allowed_is_one_line(
    actions: Actions, form: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        actions.video("make", "animate", form | change)
    assert actions.queue.jobs() == []


@pytest.mark.parametrize("name", ["page.html", "me.svg", "noending", "m3u8.m3u8"])
def test_other_kinds_of_files_are_not_taken(actions: Actions, form: dict[str, Any], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="is not taken here"):
        actions.video("make", "animate", form | {"video": str(tmp_path / name)})


@pytest.mark.parametrize("size", [0, 1_000_001])
def test_empty_and_large_files_are_not_taken(actions: Actions, form: dict[str, Any], size: int) -> None:
    Path(form["video"]).write_bytes(bytes(size))
    with pytest.raises(InputError, match="must not be empty, and 1 at most"):
        actions.video("make", "animate", form)


@pytest.mark.parametrize(
    "name", ["keep", "sam2_weights", "object_weights", "depth", "rtmlib_detector", "rtmlib_pose", "device", "swiftness"]
)
def test_settings_that_name_places_of_the_server_are_not_taken(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no setting {name} here"):
        settings_of("replace", {name: "/tmp"})


def test_poses_that_grow_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keypoints.npy", bytes(3_000_000))
    assert (tmp_path / "bomb.npz").stat().st_size < 10_000
    with pytest.raises(InputError, match="holds 3 MB of poses; 1 at most"):
        check_archive(tmp_path / "bomb.npz", Limits(megabytes=1))
    (tmp_path / "none.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="not a pose file"):
        check_archive(tmp_path / "none.npz", Limits())


def test_a_status_shows_no_ones_html(actions: Actions, form: dict[str, Any]) -> None:
    name = actions.video("make", "animate", form | {"seed": float(quick_work.BAD)})
    assert "<b>" in actions.queue.wait(name, 60).error
    shown = actions.shown(name)
    assert "&lt;b&gt;or&lt;/b&gt;" in shown and "<b>" not in shown
    assert "no job yet" in actions.shown("<b>")


def test_clicks_become_a_marks_file(tmp_path: Path) -> None:
    size, text = (200, 100), ""
    for kind, place in ((BOX, (60, 80)), (INSIDE, (30, 40)), (BOX, (20, 30)), (OUTSIDE, (5, 5))):
        text = clicked(text, " ball ", kind, place, 3, size)
    text = clicked(text, "bat", INSIDE, (7, 9), 0, size)
    ball, bat = parse_objects(json.loads(check_marks(text) or ""), (400, 200), 8)
    assert (ball.name, ball.frame, ball.box) == ("ball", 3, (40, 60, 120, 160))
    assert (ball.points, ball.outside) == (((60, 80),), ((10, 10),))
    assert (bat.name, bat.points) == ("bat", ((14, 18),))
    write_picture(tmp_path / "frame.png", np.zeros((100, 200, 3), np.uint8))
    picture = drawn(tmp_path / "frame.png", text, 3, [[100, 10, 150, 90]], 0)
    assert picture[30, 40].any() and picture[40, 30].any() and picture[50, 100].any()


def test_marks_that_are_none_are_one_line() -> None:
    assert check_marks("  ") is None
    with pytest.raises(InputError, match="one corner"):
        check_marks(clicked("", "ball", BOX, (1, 1), 0, (9, 9)))
    with pytest.raises(InputError, match="no JSON object"):
        check_marks("[" * 50_000)
    with pytest.raises(InputError, match="no name"):
        clicked("", " ", INSIDE, (1, 1), 0, (9, 9))
    with pytest.raises(InputError, match="another video"):
        clicked('{"size": [1, 2], "objects": []}', "ball", INSIDE, (1, 1), 0, (9, 9))
    with pytest.raises(InputError, match="clear them"):
        clicked('{"size": [9, 9], "objects": [5]}', "ball", INSIDE, (1, 1), 0, (9, 9))


def test_a_click_finds_the_nearest_person() -> None:
    people = [[0.0, 0.0, 100.0, 100.0], [60.0, 0.0, 100.0, 100.0]]
    assert person_at(people, (85, 50)) == 1
    assert person_at(people, (10, 50)) == 0
    assert person_at(people, (150, 50)) is None


def test_who_may_open_the_page(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("ann:a:b\n\nbob:c\n")
    assert read_auth(None) == ()
    assert read_auth("ann:x") == (("ann", "x"),)
    assert read_auth(str(file)) == (("ann", "a:b"), ("bob", "c"))
    for wrong in ("ann:", ":x", str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(InputError, match="give USER:PASSWORD"):
            read_auth(wrong)


def asked(headers: dict[str, str], path: str = "/", body: bytes = b"", hosts: Any = ("localhost",)) -> tuple[int, str]:
    """Status and body of an answer through the guard; what is behind it answers 200 with what it was sent."""
    sent: list[Any] = []
    method = "POST" if body else "GET"
    scope = {"type": "http", "method": method, "path": path}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)] or [b""]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    asyncio.run(Guard(app, hosts)(scope, receive, send))
    if sent[0]["status"] == 200:
        assert dict(sent[0]["headers"])[b"content-security-policy"] == HEADERS["content-security-policy"].encode()
    return sent[0]["status"], sent[1]["body"].decode()


def test_the_guard_lets_the_page_through() -> None:
    assert asked({"host": "localhost:7860"}) == (200, "")
    own = {"host": "localhost:7860", "origin": "http://localhost:7860", "sec-fetch-site": "same-origin"}
    body = json.dumps({"data": [{"path": "/tmp/x.png", "url": "http://localhost:7860/file=/tmp/x.png"}]}).encode()
    assert asked(own, body=body) == (200, body.decode())
    assert asked(own, body=b"username=a&password=b")[0] == 200
    assert asked({"host": "any.example"}, hosts=None)[0] == 200


@pytest.mark.parametrize(
    ("headers", "path", "body", "said"),
    [
        ({"host": "evil.example"}, "/", b"", "another name"),
        ({}, "/", b"", "another name"),
        ({"origin": "http://evil.example"}, "/", b"{}", "other sites"),
        ({"origin": "null"}, "/", b"{}", "other sites"),
        ({"origin": "http://localhost:1"}, "/", b"{}", "other sites"),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "/", b"", "other sites"),
        ({}, "/gradio_api/file=http://x.example/a", b"", "not fetched"),
        ({}, "/gradio_api/file=http%3A%2F%2Fx.example/a", b"", "not fetched"),
        ({}, "/gradio_api/proxy=https://x.hf.space/a", b"", "not fetched"),
        ({}, "/", b'{"data": [[{"path": "https://x.example/a.png"}]]}', "uploaded, not given"),
        ({}, "/", b'"' + b"x" * LARGEST_BODY + b'"', "too large"),
    ],
)
def test_the_guard_refuses_in_one_line(headers: dict[str, str], path: str, body: bytes, said: str) -> None:
    host = {} if said == "another name" else {"host": "localhost:7860"}
    status, answer = asked(host | headers, path, body)
    assert status == 403
    assert said in answer and answer.count("\n") == 1
