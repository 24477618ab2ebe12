"""The page in a real browser: Chromium, driven by Playwright; skipped where either is not installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick_work
from serving import free_port

from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.web.jobs import CANCELLED, DONE, RUNNING

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'animate-anyone[web]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
if CHROMIUM is None:
    pytest.skip("no browser: apt install chromium", allow_module_level=True)

from animate_anyone.web.serve import Running, Server  # noqa: E402 - after the packages that it needs

SLOWEST = 15_000  # milliseconds
NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    page = Running(Server(tmp_path_factory.mktemp("page") / "results", port=free_port()), quick_work.do)
    yield page
    page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, page: Running) -> Iterator[Any]:
    """Opens the page in a tab; at the end, nothing was asked of another machine, and no script has failed."""
    asked: list[str] = []
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(SLOWEST)
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda fault: faults.append(str(fault.error)))

    def visit(width: int = 1280) -> Any:
        tab = context.new_page()
        tab.set_viewport_size({"width": width, "height": 900})
        tab.goto(page.address)
        tab.get_by_role("tab", name="Animate").wait_for()
        return tab

    yield visit
    for job in page.queue.jobs():
        page.queue.cancel(job.id)
    context.close()
    outside = [url for url in asked if not url.startswith((page.address, "data:", "blob:"))]
    assert outside == []
    assert faults == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_picture(folder / "me.png", np.full((64, 64, 3), 90, np.uint8))
    (folder / "<img src=x onerror=document.title='run'>.png").write_bytes(b"bad")
    with VideoWriter(folder / "dance.mp4", (64, 64), 12) as video:
        for _ in range(4):
            video.write(np.full((64, 64, 3), 90, np.uint8))
    return folder


def give(tab: Any, files: Path, verb: str = "Animate", picture: str = "me.png") -> None:
    """Choose a verb's tab, and upload a picture and a video there."""
    tab.get_by_role("tab", name=verb).click()
    shown = tab.get_by_role("tabpanel").filter(visible=True)
    shown.locator("input[type=file][accept*=image]").set_input_files(files / picture)
    shown.locator("input[type=file][accept*=video]").set_input_files(files / "dance.mp4")
    shown.locator("video").wait_for()


def setting(tab: Any, name: str) -> Any:
    shown = tab.get_by_role("tabpanel").filter(visible=True)
    if not shown.get_by_label(name).first.is_visible():
        shown.get_by_role("button", name="Settings").click()
    return shown.get_by_label(name).first


def make(tab: Any, seed: int = 0, verb: str = "animate") -> None:
    tab.bring_to_front()  # others are slowed down by the browser
    field = setting(tab, "Seed")
    field.fill(str(seed))
    field.press("Tab")
    tab.locator(f"#aa-make-{verb}").click()


def said(tab: Any, what: str) -> None:
    tab.locator(".aa-status").filter(has_text=what).wait_for()


def test_a_whole_job_and_its_settings_again(visit: Any, page: Running, files: Path) -> None:
    tab = visit()
    give(tab, files)
    make(tab, 7)
    said(tab, "making the video: done")
    tab.get_by_text("result.mp4").first.wait_for()
    assert tab.get_by_label("What was found and done").input_value().endswith("a <b>bold</b> line")
    job = page.queue.history()[0]
    assert (job.status, job.settings["seed"], job.names["character"]) == (DONE, 7, "me.png")
    tab.get_by_role("tab", name="Replace").click()
    tab.get_by_role("button", name="History").click()
    tab.get_by_label("Videos that were made here").click()
    tab.get_by_role("option").first.click()
    setting(tab, "Seed")
    tab.get_by_role("button", name="Use these settings again").click()
    tab.get_by_role("tab", name="Animate", selected=True).wait_for()
    playwright.expect(setting(tab, "Seed")).to_have_value("7")


def test_cancel_ends_the_work(visit: Any, page: Running, files: Path) -> None:
    tab = visit()
    give(tab, files)
    make(tab, quick_work.NEVER)
    said(tab, "running, denoise 1 of 8")
    tab.get_by_role("img", name="Newest frame").or_(tab.locator("img[alt='']")).first.wait_for()
    job = page.queue.jobs()[0]
    tab.locator("#aa-cancel").click()
    said(tab, "cancelled")
    assert page.queue.job(job.id).status == CANCELLED
    assert not list(page.queue.work_folder.iterdir())
    playwright.expect(tab.locator("#aa-cancel")).not_to_be_visible()


def test_a_bad_file_is_one_line_and_its_name_is_no_html(visit: Any, page: Running, files: Path) -> None:
    tab = visit()
    give(tab, files, picture="<img src=x onerror=document.title='run'>.png")
    make(tab)
    said(tab, "failed: character.png: not a picture; give PNG <b>or</b> JPEG")
    assert tab.title() == "Animate Anyone"
    make(tab, quick_work.DIES)
    tab.locator("#aa-make-replace").wait_for(state="hidden")


def test_nothing_given_is_told(visit: Any) -> None:
    tab = visit()
    tab.locator("#aa-make-animate").click()
    tab.get_by_text("a picture of the character is missing").first.wait_for()


def test_a_second_tab_and_a_reload_in_the_middle_show_the_same_job(visit: Any, page: Running, files: Path) -> None:
    first = visit()
    give(first, files)
    make(first, quick_work.NEVER)
    said(first, "running")
    second = visit()
    said(second, "running, denoise 1 of 8")
    first.reload()
    said(first, "running, denoise 1 of 8")
    second.locator("#aa-cancel").click()
    said(first, "cancelled")
    said(second, "cancelled")
    assert page.queue.jobs()[0].status == CANCELLED


def test_one_at_a_time(visit: Any, page: Running, files: Path) -> None:
    first, second = visit(), visit()
    for tab in (first, second):
        give(tab, files)
    make(first, quick_work.NEVER)
    said(first, "running")
    make(second)
    said(second, "waiting, 0 before it")
    first.locator(".aa-queue").filter(has_text="waiting jobs: 1").wait_for()
    assert [job.status for job in page.queue.jobs()].count(RUNNING) == 1
    first.locator("#aa-cancel").click()
    said(second, "done")


def test_clicks_choose_the_person_and_mark_objects(visit: Any, files: Path) -> None:
    tab = visit()
    give(tab, files, "Replace")
    tab.get_by_role("button", name="Choose the person and objects by clicking").click()
    tab.get_by_role("button", name="Show the frame").click()
    frame = tab.locator("#aa-frame img")
    frame.wait_for()
    width = frame.bounding_box()["width"]
    scale = width / 100
    frame.click(position={"x": 75 * scale, "y": 50 * scale})
    playwright.expect(setting(tab, "Person (0")).to_have_value("1")
    tab.get_by_label("point on the object").check()
    frame.click(position={"x": 30 * scale, "y": 40 * scale})
    marks = tab.get_by_label("Marks (JSON)")
    playwright.expect(marks).not_to_have_value("")
    found = json.loads(marks.input_value())
    ((x, y),) = found["objects"][0]["marks"][0]["points"]
    assert found["size"] == [100, 200] and abs(x - 30) <= 1 and abs(y - 40) <= 1
    tab.get_by_role("button", name="Clear the marks").click()
    playwright.expect(marks).to_have_value("")


@pytest.mark.parametrize("name", ["Animate", "Replace", "Poses", "Models"])
def test_a_narrow_screen_shows_all_of_every_tab(visit: Any, name: str) -> None:
    tab = visit(NARROW["width"])
    tab.get_by_role("tab", name=name).click()
    tab.get_by_role("tab", name=name, selected=True).wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    for button in tab.get_by_role("button").filter(visible=True).all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= NARROW["width"]
