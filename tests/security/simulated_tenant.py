"""A simulated tenant in a process of its own, and what stands before it on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from patience import PATIENCE_S

COMMAND = (sys.executable, "-m", "m365watch.cli.main")
Change = Callable[[str, dict[str, str], bytes], bytes]
"""Given the path of a request, and of its answer the headers by name in lower case and the body, changes the
headers and returns the body."""


@contextmanager
def simulated(folder: Path, *options: str) -> Iterator[dict[str, Any]]:
    """The configuration that collects from the tenant, which stands in `config.json` of the folder."""
    config = folder / "config.json"
    with subprocess.Popen(
        [*COMMAND, "simulate", "--port", "0", *options, "--write-config", config.name],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as simulator:
        try:
            until_s = time.monotonic() + PATIENCE_S
            while not config.exists() or not config.read_bytes().endswith(b"}\n"):
                assert simulator.poll() is None
                assert time.monotonic() < until_s
                time.sleep(0.1)
            yield json.loads(config.read_bytes())
        finally:
            simulator.terminate()
            simulator.wait(PATIENCE_S)


@contextmanager
def forwarding(address: str, change: Change) -> Iterator[str]:
    """The address of something before the service that changes its answers."""
    service = urlsplit(address).netloc

    class Forwarder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = HTTPConnection(service, timeout=PATIENCE_S)
            connection.request(self.command, self.path, sent or None, dict(self.headers))
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            body = change(self.path, headers, answer.read())
            connection.close()
            self.send_response_only(answer.status)
            for name, value in headers.items():
                if name not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that is looked for

        def log_message(self, *_: object) -> None:
            """Nothing is written."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Forwarder) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()
