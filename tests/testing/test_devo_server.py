from __future__ import annotations

import socket

from m365watch_testing.devo_server import DevoServer


def test_what_was_sent_before_is_waited_for() -> None:
    """Also where the client has gone before the server's thread had its turn."""
    sent = [b"<14>one line %d" % number for number in range(20)]

    with DevoServer(None) as server:
        for count, line in enumerate(sent, 1):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(line + b"\n")
            server.wait_until_over()
            assert len(server.connections) == count

    assert server.lines == sent
