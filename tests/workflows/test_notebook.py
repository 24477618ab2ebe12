"""The example notebook runs from top to bottom, and shows what it should."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.media import probe
from animate_anyone.progress import SILENT, NotebookProgress, in_notebook, suiting
from animate_anyone.workflows.result_page import MOST_BYTES, result_page
from animate_anyone.workflows.settings import Report
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs/tutorials/notebook.ipynb"


def outputs(cell: Any, kind: str) -> str:
    """All that a cell has put out of a kind: a MIME type, ``stdout`` or ``stderr``."""
    return "".join(
        output["text"] if output.get("name") == kind else output.get("data", {}).get(kind, "")
        for output in cell.outputs
    )


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    pytest.importorskip("ipykernel", reason="the notebook needs a kernel: pip install ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="runs notebooks: pip install nbclient")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"], folder


def test_a_result_shows_itself(cells: tuple[list[Any], Path]) -> None:
    code, folder = cells
    (shown,) = [cell for cell in code if cell.source.endswith("\nresult")]
    html = outputs(shown, "text/html")
    embedded = b64decode(re.findall(r'src="data:video/mp4;base64,([^"]+)"', html)[0])
    assert embedded == (folder / "out.mp4").read_bytes()
    assert "out.mp4: 16 frames, 256x256" in html
    assert probe(folder / "out.mp4").num_frames == 16


def test_bars_are_shown_below_the_cell(cells: tuple[list[Any], Path]) -> None:
    (shown,) = [cell for cell in cells[0] if cell.source.endswith("\nresult")]
    said = outputs(shown, "stderr") + outputs(shown, "application/vnd.jupyter.widget-view+json")
    assert "frames" in said and "16/16" in said


def test_pictures_and_errors(cells: tuple[list[Any], Path]) -> None:
    code, folder = cells
    assert sum(bool(outputs(cell, "image/png")) for cell in code) == 2
    assert outputs(code[-1], "stdout").startswith("missing.png: no such file")
    assert {path.name for path in folder.glob("*.mp4")} == {"out.mp4", "guess.mp4", "seed_0.mp4", "seed_1.mp4"}


def test_it_is_committed_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_elsewhere_nothing_is_shown() -> None:
    assert not in_notebook()
    assert suiting(None) is SILENT
    given = NotebookProgress()
    assert suiting(given) is given
    assert list(given.track("ab", description="letters")) == ["a", "b"]


def test_what_is_shown_is_text(tmp_path: Path) -> None:
    video = tmp_path / "<b>&.mp4"
    video.write_bytes(b"film")
    page = result_page(video, ["<script>alert(1)</script>", "second"])
    assert "<script>" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page and "ZmlsbQ==" in page


def test_videos_that_are_not_shown_are_named(tmp_path: Path) -> None:
    large, other = tmp_path / "large.mp4", tmp_path / "film.mkv"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    other.write_bytes(b"film")
    for path in (large, other):
        assert "open it in a player" in result_page(path, []) and "<video" not in result_page(path, [])
    assert "is not there any more" in result_page(tmp_path / "gone.mp4", [])


def test_a_report_without_a_video() -> None:
    report = Report(["one", "two"])
    assert str(report) == "one\ntwo"
    assert "<video" not in report._repr_html_()
