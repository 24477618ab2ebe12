"""A hook of MkDocs: the results of benchmarks/ are pages of the site too, and pictures of integrations/ are in it, so
that links to them hold there as they do in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add ``benchmarks/**/*.md`` and ``integrations/**/*.jpg``."""
    for path in sorted((*(REPOSITORY / "benchmarks").rglob("*.md"), *(REPOSITORY / "integrations").rglob("*.jpg"))):
        name = path.relative_to(REPOSITORY).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that leave docs/ for benchmarks/ and integrations/ lead to the files of :func:`on_files`."""
    return re.sub(r"\]\(((?:\.\./)*)\.\./(benchmarks|integrations)/", r"](\1\2/", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things as Sphinx does, ``:func:`~a.b.name```: here the name alone is shown, as code."""
    html = re.sub(r":(?:attr|class|data|exc|func|meth|mod):(?=<code)", "", html)
    return re.sub(r"(<code[^>]*>)~[\w.]+\.(\w+</code>)", r"\1\2", html)
