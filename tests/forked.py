"""Python programs in processes of their own, without the time that their imports take.

A process that has imported what collectors import forks itself for each program. What comes of a fork is a
process like any other: it has an id, can be killed, and ends with a code; only its start is another. Tests of
starts use real ones.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from elsewhere import count_cpu_s
from lent import import_all, take_over
from patience import PATIENCE_S
from rights import give_up_rights

PIPE = subprocess.PIPE
_REQUEST_BYTES_MAX = 1_048_576
_WORD = 32


class Forked:
    """A program that runs, or has ended; used as one of `asyncio.create_subprocess_exec`."""

    def __init__(self, pid: int, server: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._end = asyncio.create_task(self._until_ended(server))

    async def _until_ended(self, server: socket.socket) -> int:
        with server:
            server.setblocking(False)
            told = await asyncio.get_running_loop().sock_recv(server, _WORD)
        code, cpu_s = told.split()
        count_cpu_s(float(cpu_s))
        self.returncode = int(code)
        return self.returncode

    async def wait(self) -> int:
        """The exit code, once there is one; the signal that ended it is a negative one."""
        return await asyncio.shield(self._end)

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it has written to its pipes, once it has ended."""
        out, err = await asyncio.gather(_rest_of(self.stdout), _rest_of(self.stderr))
        await self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it, unless the program has ended."""
        if self.returncode is None:
            # It may end between the look and the signal, as it does where it was told to stop before.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


async def fork(
    program: str | Path,
    *words: str,
    folder: Path | None = None,
    stdout: int | None = None,
    stderr: int | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    has_rights: bool = True,
) -> Forked:
    """A module's name or a file, begun with these words; it reads nothing.

    `stdout` and `stderr` may be `PIPE`, or go nowhere; `stderr` may also be a file. Without its rights a
    program of root's is to files of others what anybody's is.
    """
    pipes = [os.pipe() if where == PIPE else None for where in (stdout, stderr)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    given = [nowhere, *(pipe[1] if pipe else nowhere for pipe in pipes)]
    if not isinstance(stderr, int) and stderr is not None:
        given[2] = stderr.fileno()
    asked = {
        "program": str(program),
        "words": words,
        "folder": str(folder or Path.cwd()),
        "environment": dict(os.environ if environment is None else environment),
        "has_rights": has_rights,
    }
    server = socket.socket(socket.AF_UNIX)
    server.connect(_server())
    socket.send_fds(server, [json.dumps(asked).encode()], given)
    server.shutdown(socket.SHUT_WR)
    begun = Forked(int(server.recv(_WORD)), server)
    for end in {nowhere, *(pipe[1] for pipe in pipes if pipe)}:
        os.close(end)
    begun.stdout, begun.stderr = [await _reader(pipe[0]) if pipe else None for pipe in pipes]
    return begun


def run_forked(
    program: str | Path,
    *words: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Such a program, once it has ended."""

    async def run() -> subprocess.CompletedProcess[str]:
        begun = await fork(program, *words, folder=folder, stdout=PIPE, stderr=PIPE, environment=environment)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await begun.communicate()
            code = await begun.wait()
        return subprocess.CompletedProcess([str(program), *words], code, out.decode(), err.decode())

    return asyncio.run(run())


async def _reader(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb"))
    return reader


async def _rest_of(pipe: asyncio.StreamReader | None) -> bytes:
    return await pipe.read() if pipe else b""


@cache
def _server() -> str:
    """The address of this process's server, which ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="m365watch-forks-")
    path = f"{folder.name}/socket"
    command = [sys.executable, str(Path(__file__)), path]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_end, server, folder)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return path


def _end(server: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    server.communicate()
    folder.cleanup()


def serve(path: str) -> None:
    """Fork a program for each request, until standard input ends."""
    import_all()
    listener, selector = socket.socket(socket.AF_UNIX), selectors.DefaultSelector()
    listener.bind(path)
    listener.listen()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while sys.stdin not in [key.fileobj for key, _ in selector.select()]:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            selector.close()
            return _attend(client)
        client.close()
        _reap()
    return None


def _attend(client: socket.socket) -> None:
    """In a child: fork once more for the program, and tell the client how it ended."""
    text, streams, _, _ = socket.recv_fds(client, _REQUEST_BYTES_MAX, 3)
    while more := client.recv(_REQUEST_BYTES_MAX):
        text += more
    program = os.fork()
    if program == 0:
        client.close()
        return _become(json.loads(text), streams)
    for stream in {0, 1, 2, *streams}:
        os.close(stream)
    client.send(str(program).encode().ljust(_WORD))
    _, status, used = os.wait4(program, 0)
    client.send(f"{os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime:.3f}".encode())
    os._exit(0)


def _become(asked: dict[str, Any], streams: Sequence[int]) -> None:
    """Be the program that is asked for; what it raises ends this process as it would have ended one."""
    take_over(asked, streams, program=asked["program"])
    if not asked["has_rights"]:
        give_up_rights()
    if asked["program"].endswith(".py"):
        sys.path[0] = str(Path(asked["program"]).parent)
        runpy.run_path(asked["program"], run_name="__main__")
    else:
        sys.path[0] = asked["folder"]
        sys.modules.pop(asked["program"], None)
        runpy.run_module(asked["program"], run_name="__main__", alter_sys=True)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        """There is none just now."""


if __name__ == "__main__":
    serve(sys.argv[1])
