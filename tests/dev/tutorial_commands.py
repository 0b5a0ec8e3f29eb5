"""`m365watch` for a shell, without the half second that each start takes.

A process that has everything imported forks itself for each command, and a small client lends it the
command's streams, folder and environment.

python tutorial_commands.py serve SOCKET; python tutorial_commands.py SOCKET WORD...
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REQUEST_BYTES_MAX = 1_048_576


def call(path: str, words: list[str]) -> int:
    """Have the command run with this process's streams; its exit code. A signal to stop is passed on."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        folder = os.getcwd()  # noqa: PTH109 - pathlib takes longer to import than all else here
        request = json.dumps({"words": words, "folder": folder, "environment": dict(os.environ)})
        socket.send_fds(server, [request.encode()], [0, 1, 2])
        server.shutdown(socket.SHUT_WR)
        pid = int(server.recv(16))
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda number, _frame: os.kill(pid, number))
        return int(server.recv(16))


def serve(path: str) -> None:
    """Run commands until killed; each in a child of its own, several at a time."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - as above
    from lent import import_all

    import_all()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _attend(client)
            client.close()
            _reap()


def _attend(client: socket.socket) -> None:
    """In a child: fork once more for the command, and tell the client how it ended."""
    text, streams, _, _ = socket.recv_fds(client, _REQUEST_BYTES_MAX, 3)
    while more := client.recv(_REQUEST_BYTES_MAX):
        text += more
    command = os.fork()
    if command == 0:
        client.close()
        _become(json.loads(text), streams)
    for stream in streams:
        os.close(stream)
    client.send(str(command).encode().ljust(16))
    _, status = os.waitpid(command, 0)
    client.send(str(os.waitstatus_to_exitcode(status) % 256).encode())
    os._exit(0)


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """Be the command that is asked for; does not come back."""
    from lent import take_over

    from m365watch.cli.main import main

    take_over(asked, streams, program="m365watch")
    main()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        """There is none just now."""


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
