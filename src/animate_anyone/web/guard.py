"""What the page refuses before Gradio sees it: other sites' requests, addresses in place of files; and its headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST_BODY = 1_000_000
"""Bytes of a request that is no upload."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self' blob: data:; "
        "worker-src 'self' blob:; frame-ancestors 'none'; object-src 'none'; base-uri 'self'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""A browser that shows the page asks nobody else for anything."""


class Guard:
    """An ASGI middleware.

    Args:
        app: what it stands before.
        hosts: names by which the server may be called, so that another site cannot give its own name to this
            machine's address; ``None``: any.
    """

    def __init__(self, app: Any, hosts: tuple[str, ...] | None = LOOPBACK) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request: one line where it is refused."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        why = self._refusal(headers, scope["path"])
        if why is None and scope["method"] == "POST" and not _is_upload(headers):
            body = await _read(receive)
            why = "the request is too large" if body is None else _refused_body(body)
            receive = _again(body or b"", receive)
        if why is not None:
            await _refuse(send, why)
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, headers: dict[str, str], path: str) -> str | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            return "this server has another name"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "requests of other sites are not answered"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "requests of other sites are not answered"
        asked = unquote(unquote(path)).lower()
        if "/proxy=" in asked or ("=" in asked and "://" in asked) or "/file=http" in asked:
            return "other servers' files are not fetched"
        return None


def _is_upload(headers: dict[str, str]) -> bool:
    return headers.get("content-type", "").startswith("multipart/form-data")


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _refused_body(body: bytes) -> str | None:
    """Why a JSON body is refused: a file in it that is an address. Gradio would fetch it."""
    try:
        content = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None  # a form, such as that of the login; as JSON it is refused further on
    stack = [content]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            path = one.get("path")
            if isinstance(path, str) and "://" in path:
                return "a file is uploaded, not given by its address"
            stack += one.values()
        elif isinstance(one, list):
            stack += one
    return None


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; ``None`` where it is too large."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            return None
        if message["type"] != "http.request" or not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read, and then what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return waiting.pop() if waiting else await receive()

    return given


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", ()), *given]
        await send(message)

    return sent


async def _refuse(send: Send, why: str) -> None:
    body = f"{why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
