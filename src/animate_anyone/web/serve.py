"""Serve the page until the process is told to end."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from animate_anyone.engines.job_process import Work
from animate_anyone.errors import InputError
from animate_anyone.models.folder import METHODS, class_name, model_folder
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.optional import require
from animate_anyone.web.guard import LOOPBACK, Guard
from animate_anyone.web.jobs import JobQueue
from animate_anyone.web.limits import Limits

PORT = 7860


@dataclass(frozen=True)
class Server:
    """How the page is served; every field is an option of ``animate-anyone web``.

    Attributes:
        folder: of results.
        host, port: where it listens.
        share: whether Gradio makes an address for it that anybody on the internet can open.
        auth: ``(name, password)`` of those who may open it; empty: everybody who reaches it.
        models: model folders beside the shipped models.
        limits: on what is taken from visitors.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = PORT
    share: bool = False
    auth: tuple[tuple[str, str], ...] = ()
    models: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)


class Running:
    """A page that is being served.

    Attributes:
        address: to be opened in a browser.
        queue: its jobs.
    """

    def __init__(self, server: Server, work: Work, devices: Sequence[Mapping[str, str]] = ({},)) -> None:
        models = models_by_verb(server.models)
        _check_address(server)
        self._cache = tempfile.mkdtemp(prefix="animate-anyone-web-")
        # Gradio reads these when it is imported.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=self._cache, HF_HUB_OFFLINE="1")
        try:
            require("gradio.blocks", "web")
            from animate_anyone.web.actions import Actions
            from animate_anyone.web.page import build, look

            self.queue = JobQueue(server.folder, work, server.limits, devices)
            try:
                self._page = build(Actions(self.queue, models))
                self.address = self._launch(server, look())
            except BaseException:
                self.queue.close()
                raise
        except BaseException:
            shutil.rmtree(self._cache, ignore_errors=True)
            raise

    def _launch(self, server: Server, look: dict[str, Any]) -> str:
        from starlette.middleware import Middleware

        local = server.host in LOOPBACK and not server.share
        guard = Middleware(Guard, hosts=LOOPBACK if local else None)
        _, address, shared = self._page.queue(max_size=200).launch(
            server_name=server.host,
            server_port=server.port,
            share=server.share,
            auth=list(server.auth) or None,
            allowed_paths=[str(self.queue.results_folder), str(self.queue.folder / "examples")],
            max_file_size=f"{server.limits.megabytes}mb",
            app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None, "openapi_url": None},
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            inbrowser=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            **look,
        )
        return shared or address

    def close(self) -> None:
        """Stop serving, end all jobs, and remove what is temporary."""
        self.queue.close()
        self._page.close(verbose=False)
        shutil.rmtree(self._cache, ignore_errors=True)


def serve(server: Server) -> None:
    """Serve the page until an interrupt. Raises :class:`InputError` where that cannot be."""
    from animate_anyone.engines.local_pool import share_of_machine, usable_gpus
    from animate_anyone.web.work import do

    gpus = usable_gpus()
    size = max(1, len(gpus))
    running = Running(server, do, devices=[share_of_machine(number, size, gpus) for number in range(size)])
    try:
        print(f"open {running.address} in a browser; results are kept in {server.folder}; Ctrl-C ends it", flush=True)
        threading.Event().wait()
    finally:
        running.close()


def models_by_verb(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The models that visitors may choose from. Raises :class:`InputError` for a folder that is none."""
    models: dict[str, list[str]] = {verb: [] for _, verb in METHODS.values()}
    for model in (*SHIPPED, *(str(folder.resolve()) for folder in folders)):
        _, verb = METHODS[class_name(model_folder(model))]
        models[verb].append(model)
    return models


def _check_address(server: Server) -> None:
    """Raise :class:`InputError` where nobody can listen there."""
    try:
        kind = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind[0], kind[1]) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(kind[4])
    except OSError as error:
        raise InputError(
            f"--host {server.host} --port {server.port}: cannot listen there ({error.strerror}); give another --port"
        ) from None
