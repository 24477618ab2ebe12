"""A hub on loopback: the few addresses that a pull asks for, a disk in memory, and the faults of real life.

It answers as the real one does: what a revision holds, with git's names and LFS digests; small files at once;
large ones by a redirect to another address that knows ranges. Files at addresses of their own lie below ``/web/``.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from animate_anyone.interop import catalog

SMALL = (".json", ".md")  # kept by git itself, all else is LFS
LARGE_SIZE = 300_000


def content(repo: str, path: str, size: int = LARGE_SIZE) -> bytes:
    """Bytes of a file, always the same ones."""
    if path.endswith(SMALL):
        return json.dumps({"of": repo, "path": path}).encode()
    return random.Random(f"{repo}/{path}").randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@dataclass
class SmallHub:
    """Holds every file of the catalogue at first, and a README that nobody asks for.

    Attributes:
        commits: repository to commit to path to content; the newest commit is ``main``.
        cut: content's digest to numbers of bytes after which the next connections break.
        busy: how many of the next requests for content are answered with status 503.
        spoilt: path to what is sent in place of its content; the digest that is stated stays.
        ranges: whether it knows ranges.
        stop_after: bytes of a file after which a connection stands still until the hub closes.
        asked: every request: method, path, range.
        sent: bytes of content sent, by path inside its repository, or by address.
        web: address to content, of files outside the hub.
    """

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    busy: int = 0
    spoilt: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    stop_after: int | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    web: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in catalog.ENTRIES:
            for source in entry.sources:
                if isinstance(source, catalog.WebFile):
                    self.web[source.url] = content(source.url, source.name)
                    continue
                files = {path: content(source.repo, path) for path in (*source.files, "README.md")}
                self.commits.setdefault(source.repo, {"a" * 40: {}})["a" * 40].update(files)
        self.standing, self.released = threading.Event(), threading.Event()

    def __enter__(self) -> SmallHub:
        hub = self

        class Handler(Answers):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def address_of(self, url: str) -> str:
        """Where a file outside the hub is to be asked for."""
        return f"{self.address}/web/{url.partition('://')[2]}"

    def as_it_is_here(self, entry: catalog.Entry) -> catalog.Entry:
        """An entry whose known digests and sizes are those of what lies here."""
        sources = [
            replace(one, sha256=sha256(self.web[one.url]), size=len(self.web[one.url]))
            if isinstance(one, catalog.WebFile) and one.sha256 is not None
            else one
            for one in entry.sources
        ]
        return replace(entry, sources=tuple(sources))

    def move_main(self, repo: str, commit: str, **changes: bytes) -> None:
        """A new commit, in which some files are others."""
        newest = list(self.commits[repo].values())[-1]
        self.commits[repo][commit] = {**newest, **changes}

    def fetched(self) -> list[str]:
        """Paths of content that were asked for, in order."""
        return [path.split("/resolve/")[1].split("/", 1)[1] for _, path, _ in self.asked if "/resolve/" in path]


class Answers(BaseHTTPRequestHandler):
    """One request. Every connection ends after its answer."""

    hub: SmallHub

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._revision(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        elif found := re.fullmatch(r"/content/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self._content(*found.groups())
        elif path.startswith("/web/") and (url := f"https://{path.removeprefix('/web/')}") in self.hub.web:
            self._send(url, self.hub.web[url], {"Accept-Ranges": "bytes"})
        else:
            self._error(404, "EntryNotFound")

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _tree(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit and its files; ``None`` after an error was sent."""
        commits = self.hub.commits.get(repo)
        if commits is None:
            return self._error(404, "RepoNotFound")
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            return self._error(404, "RevisionNotFound")
        return commit, commits[commit]

    def _revision(self, repo: str, revision: str) -> None:
        if (found := self._tree(repo, revision)) is None:
            return
        commit, files = found
        siblings = []
        for path, data in files.items():
            sibling: dict[str, Any] = {"rfilename": path}
            if "blobs=" in self.path:
                sibling |= {"size": len(data), "blobId": git_sha1(data)}
                if not path.endswith(SMALL):
                    pointer = f"pointer to {sha256(data)}".encode()
                    sibling["blobId"] = git_sha1(pointer)
                    sibling["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": len(pointer)}
            siblings.append(sibling)
        body = json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        if (found := self._tree(repo, revision)) is None:
            return
        commit, files = found
        if path not in files:
            return self._error(404, "EntryNotFound")
        data = files[path]
        if path.endswith(SMALL):
            return self._send(path, data, {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(data)}"'})
        self.send_response(302)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Etag", f'"{sha256(data)}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("Location", f"{self.hub.address}/content/{repo}/{commit}/{path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, repo: str, commit: str, path: str) -> None:
        data = self.hub.commits[repo][commit][path]
        self._send(path, data, {"ETag": f'"{sha256(data)}"', "Accept-Ranges": "bytes"})

    def _send(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        hub = self.hub
        if hub.busy:
            hub.busy -= 1
            return self._error(503, "")
        data = hub.spoilt.get(path, data)
        start, whole = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if hub.ranges else None
        if asked:
            start = int(asked[1])
            if start >= whole:
                return self._error(416, "")
        self.send_response(206 if asked else 200)
        if asked:
            stop = int(asked[2]) + 1 if asked[2] else whole
            data = data[:stop]
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{whole}")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        body = data[start:]
        cuts = hub.cut[path]
        body = body[: cuts.pop(0)] if cuts else body
        if hub.stop_after is not None and not path.endswith(SMALL):
            body = body[: hub.stop_after]
        hub.sent[path] += len(body)
        self.wfile.write(body)
        self.wfile.flush()
        if hub.stop_after is not None and not path.endswith(SMALL):
            hub.standing.set()
            hub.released.wait(60)
        self.close_connection = True
