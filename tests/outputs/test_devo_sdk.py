"""Devo's own sender against the same receiver: what agrees, and what it loses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from devo.sender import DevoSenderException, Sender, SenderConfigSSL
from promises import guarantee

from devo_places import make_devo, split_line
from m365watch_testing.batches import make_records, make_simple_batch
from m365watch_testing.devo_server import DevoServer, Faults
from wire_places import Papers

TABLE = "cloud.office365.management.exchange"
DATE = "2026-11-17 09:30:00.000"
HOST = "collector-1"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def sdk_sender(papers: Papers, server: DevoServer) -> Any:
    """Devo's sender, connecting with the same files."""
    address = ("localhost", server.port)
    config = SenderConfigSSL(
        address=address, key=str(papers.tls.key), cert=str(papers.tls.cert), chain=str(papers.tls.chain)
    )
    return Sender(config, timeout=5)


def send_ours(papers: Papers, server: DevoServer, records: list[bytes], *, threshold: float) -> None:
    """Our output's way from open to close."""

    async def run() -> None:
        output = make_devo(
            papers,
            server.port,
            threshold_for_using_gzip_in_transport_layer=threshold,
            compression_buffer_in_bytes=2_000,
        )
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, records, output="devo"))
        await output.close()

    asyncio.run(run())
    server.wait_until_over()


def send_sdk(sender: Any, records: list[bytes], *, compressed: bool) -> None:
    """The same records, as Devo's Collector SDK hands them over."""
    for record in records:
        if compressed:
            options = {"zip": True, "date": DATE.encode(), "hostname": HOST.encode()}
            sender.send(tag=TABLE.encode(), msg=record, **options)
        else:
            sender.send(tag=TABLE, msg=record.decode(), date=DATE, hostname=HOST)


@guarantee(22)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_lines_are_those_of_devos_own_sender(papers: Papers, compressed: bool) -> None:
    """Byte for byte, plain and in gzip members, over the same connection of TLS."""
    records = make_records(100)
    with papers.serve() as sdk_server:
        sender = sdk_sender(papers, sdk_server)
        send_sdk(sender, records, compressed=compressed)
        sender.flush_buffer()
        sender.close()
        sdk_server.wait_until_over()
    with papers.serve() as server:
        send_ours(papers, server, records, threshold=-1.0 if compressed else 1.1)

    assert server.lines == sdk_server.lines
    assert [bool(served.connections[0].parser.members) for served in (server, sdk_server)] == [compressed] * 2


def test_devos_sender_drops_its_buffer_when_a_send_fails_and_ours_does_not(papers: Papers) -> None:
    """Against the same receiver, which cannot be reached for a moment."""
    records = make_records(5)
    with papers.serve() as sdk_server:
        port = sdk_server.port
        sender = sdk_sender(papers, sdk_server)
    send_sdk(sender, records, compressed=True)
    with pytest.raises(DevoSenderException):
        sender.flush_buffer()
    with papers.serve(port=port) as sdk_server:
        sender.flush_buffer()
        sender.close()
    with papers.serve(lambda number: Faults(close_after_bytes=0) if number < 2 else Faults()) as server:
        send_ours(papers, server, records, threshold=-1.0)

    assert sdk_server.lines == []
    assert [split_line(line)["record"] for line in server.lines] == records
