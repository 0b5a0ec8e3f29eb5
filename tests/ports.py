"""Ports of loopback that nobody else gets while a test has them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count


@contextmanager
def kept_port() -> Iterator[int]:
    """A port at which nothing listens until somebody does who is told its number.

    Until then connections to it are refused. It stays bound, so that the system gives it to no other program:
    one that was found free and let go may be another's a moment later.
    """
    with socket.socket() as held:
        # What servers set as well: it lets one of them listen beside a socket that only has the port.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def datagram_port() -> int:
    """A free port for datagrams, below those that the system hands out by itself.

    Whoever asks at the same time is another process, and looks at other ports first.
    """
    for port in count(20_000 + os.getpid() * 10 % 10_000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError
