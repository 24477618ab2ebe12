"""The documentation site: built strictly, so that a link to nothing fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from conftest import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built; warnings are errors."""
    for module in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python"):
        if importlib.util.find_spec(module.split(".")[0]) is None:
            pytest.skip(f'{module} is not installed: pip install "animate-anyone[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


class Links(HTMLParser):
    """What a page links to, and what it can be linked at."""

    def __init__(self) -> None:
        super().__init__()
        self.to: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.add(given.get("id") or "")
        for name in ("href", "src"):
            if given.get(name):
                self.to.append(str(given[name]))


def read(page: Path) -> Links:
    links = Links()
    links.feed(page.read_text())
    return links


def test_every_link_of_every_page_leads_somewhere(site: Path) -> None:
    pages = {page: read(page) for page in site.rglob("*.html")}
    assert len(pages) > 40
    lost = []
    for page, links in pages.items():
        if page.name == "404.html":  # is shown at any address
            continue
        for link in links.to:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                parts.fragment and target in pages and parts.fragment not in pages[target].names
            ):
                lost.append(f"{page.relative_to(site)}: {link}")
    assert lost == []


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are the site's own."""
    loaded = re.compile(r"<(?:script|img|iframe)[^>]+src=\"?(https?:)?//|<link[^>]+stylesheet[^>]+href=\"?https?://")
    assert [page.name for page in site.rglob("*.html") if loaded.search(page.read_text())] == []


def test_the_reference_comes_from_docstrings(site: Path) -> None:
    text = (site / "reference.html").read_text()
    for name in ("animate_anyone.workflows.animate.animate", "animate_anyone.sampling.pipeline.AnimateAnyonePipeline"):
        assert f'id="{name}"' in text
    assert "Make a video of the character moving as the driver moves" in text
    assert not re.search(r":(func|class|mod|data|meth):|<code>~", text), "Sphinx's roles are not shown"


def test_every_page_is_in_the_navigation_or_linked(site: Path) -> None:
    docs = REPOSITORY / "docs"
    home = (site / "index.html").read_text()
    for page in docs.rglob("*.md"):
        name = page.relative_to(docs).with_suffix(".html").as_posix()
        assert name == "index.html" or f'href="{name}' in home, f"{name} is in no navigation: add it to mkdocs.yml"


def test_zensical_builds_it_too(tmp_path: Path) -> None:
    program = shutil.which("zensical", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("zensical is not installed: pip install zensical")
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")  # it follows no links
    (tmp_path / "src").symlink_to(REPOSITORY / "src")
    done = subprocess.run([program, "build", "-f", "mkdocs.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "tutorials" / "picture.html").is_file()
