"""Servers started by the command line, and sockets that speak to them byte by byte."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from patience import PATIENCE_S
from ports import kept_port

COMMAND = (sys.executable, "-m", "m365watch.cli.main")
FILES_MAX = 1024
"""The limit of open files of a login shell, and of many services."""
_ESTABLISHED = "01"
_SECRET = "simulated-secret-of-a-test"
_AUTH_ID = "an-auth-id-that-nobody-guesses"


class Served(NamedTuple):
    """A server: its process, its port, and a request that it answers before any sign-in."""

    process: subprocess.Popen[bytes]
    port: int
    probe: bytes
    status: int

    def connect(self, *, timeout_s: float = 10.0, address: str = "127.0.0.1") -> socket.socket:
        """A connection to the port, from that address of the loopback."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=timeout_s, source_address=(address, 0)
        )

    def answers(self, request: bytes | None = None, *, timeout_s: float = 10.0) -> bool:
        """Whether the probe is answered in time, or another request in any way but that it comes again."""
        try:
            with self.connect(timeout_s=timeout_s) as peer:
                peer.sendall(request or self.probe)
                status = status_of(peer)
        except OSError:
            return False
        return status == self.status if request is None else status not in {0, 500, 503}

    def ask_unread(self, request: bytes, *, address: str = "127.0.0.1") -> socket.socket:
        """A connection by which something was asked, and of whose answer the kernel keeps little."""
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        peer.settimeout(PATIENCE_S)
        peer.bind((address, 0))
        peer.connect(("127.0.0.1", self.port))
        peer.sendall(request)
        return peer

    def holds(self, peer: socket.socket) -> bool:
        """Whether the server has not ended the connection; a client that reads nothing does not see it."""
        here, there = (f":{port:04X}" for port in (self.port, peer.getsockname()[1]))
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        ends = (line.split()[1:4] for line in lines)
        return any(
            own.endswith(here) and other.endswith(there) and state == _ESTABLISHED
            for own, other, state in ends
        )

    def secured(self, *, timeout_s: float = 10.0) -> ssl.SSLSocket:
        """A connection that speaks TLS, with whatever certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(self.connect(timeout_s=timeout_s))

    def speaks_tls(self) -> bool:
        """Whether a handshake comes to its end."""
        try:
            self.secured().close()
        except OSError:
            return False
        return True

    @property
    def rss_bytes(self) -> int:
        """What the process holds in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10


def status_of(peer: socket.socket) -> int:
    """The status of the next answer; 0 where the connection ends without one."""
    answer = b""
    while b"\r\n" not in answer:
        part = peer.recv(4096)
        if not part:
            return 0
        answer += part
    return int(answer.split(b" ", 2)[1])


def ended_within_s(peer: socket.socket, *, send: bytes, most_s: float) -> float:
    """How long the peer lets `send` be said to it every half second; `most_s` where it does not end."""
    begun_s = time.monotonic()
    peer.settimeout(0.5)
    while (passed_s := time.monotonic() - begun_s) < most_s:
        try:
            peer.sendall(send)
            if not peer.recv(4096):
                return passed_s
        except TimeoutError:
            continue
        except OSError:
            return passed_s
    return most_s


@contextmanager
def served(
    kind: str,
    folder: Path,
    *,
    limits: Sequence[str] = (),
    board: Mapping[str, object] | None = None,
    records: int = 10,
    output: str = "files",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """The board, the simulator, a collector with a webhook, or a wait for consent, until the block ends.

    `limits` are what `ulimit` is told before, `board` is the section of the configuration for it; a collector
    has so many `records` to collect, for such an `output`, and may have another `environment`.
    """
    with ExitStack() as ends:
        port = ends.enter_context(kept_port())
        if kind == "board":
            config = write_config(folder, **({"board": board} if board else {}))
            arguments = ["board", "-c", config, "--listen", f"127.0.0.1:{port}"]
            probe, status = _get("/healthz", port), 200
        elif kind == "simulator":
            arguments = ["simulate", "--port", str(port), "--days", "1", "--records-per-day", "10"]
            probe, status = _get("/simulator/report", port), 200
        elif kind == "consent":
            waits = ["consent", "serve", "--no-write", "--port", str(port)]
            arguments = [*waits, "-c", write_config(folder)]
            probe, status = _get("/nothing", port), 404
        else:
            file = folder / "m365watch.json"
            simulator = ends.enter_context(_simulator(file, records))
            _await(lambda: file.exists() and file.stat().st_size > 0, simulator)
            document = json.loads(file.read_text(encoding="utf-8"))
            listen = f"127.0.0.1:{port}"
            document["globals"]["webhook"] = {
                "address": f"http://{listen}/hook",
                "listen": listen,
                "auth_id": _AUTH_ID,
            }
            document["outputs"] = {output: {"type": output, "config": {"directory": str(folder / output)}}}
            file.write_text(json.dumps(document), encoding="utf-8")
            arguments = ["run", "-c", str(file)]
            head = f"POST /hook HTTP/1.1\r\nHost: {listen}\r\nContent-Length: 0\r\n\r\n"
            probe, status = head.encode(), 401
        process = ends.enter_context(_running(arguments, folder, limits, environment))
        one = Served(process, port, probe, status)
        _await(one.speaks_tls if "certificate_file" in (board or {}) else one.answers, process)
        yield one


def hooked(hook: str, folder: Path) -> dict[str, str]:
    """The environment in which each Python process imports that file of this folder before all else."""
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name(hook), folder / "sitecustomize.py")
    paths = (str(folder), os.environ.get("PYTHONPATH", ""))
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def write_config(folder: Path, **more: Any) -> str:
    """A configuration of one tenant whose lake lies in the folder."""
    credentials = {
        "tenant_id": "11111111-1111-4111-8111-111111111111",
        "client_id": "22222222-2222-4222-8222-222222222222",
        "client_secret": _SECRET,
    }
    document = {
        "inputs": {"one": {"type": "office365", "credentials": credentials}},
        "outputs": {"lake": {"type": "lake", "config": {"directory": str(folder / "lake")}}},
    }
    file = folder / "m365watch.json"
    file.write_text(json.dumps(document | more), encoding="utf-8")
    file.chmod(0o600)
    return str(file)


def raise_own_limit() -> None:
    """Let the test itself hold more connections than the server may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * FILES_MAX
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )


@contextmanager
def _simulator(config: Path, records: int) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["simulate", "--port", "0", "--days", "1", "--records-per-day", str(records)]
    with _running([*arguments, "--write-config", str(config)], config.parent) as process:
        yield process


@contextmanager
def _running(
    arguments: list[str],
    folder: Path,
    limits: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    limited = ["sh", "-ec", "".join(f"ulimit {one}; " for one in limits) + 'exec "$@"', "sh"]
    with (folder / f"{arguments[0]}.out").open("wb") as told:
        process = subprocess.Popen(
            [*limited, *COMMAND, *arguments],
            cwd=folder,
            stdout=told,
            stderr=told,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        process.kill()
        process.wait()


def _await(holds: Any, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert process.poll() is None, "the command has ended"
        assert time.monotonic() < until_s, "the command does not answer"
        time.sleep(0.1)


def _get(path: str, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
