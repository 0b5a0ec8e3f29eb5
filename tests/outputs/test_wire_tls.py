from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.secret import Secret
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.connector import make_context
from m365watch_testing.certificates import Authority
from m365watch_testing.devo_server import DevoServer, Faults, server_tls
from wire_places import QUICK, Papers, changed, lines_in, make_chunks, make_sender, opened, warnings_in

EXPIRED = timedelta(days=-1_000)
"""Long ago: TLS libraries go by the machine's clock, also where a test's is on another day."""


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path, "Another CA")


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    """Whatever the system's library would allow."""
    context = make_context(TlsSettings(chain=None, cert=None, key=None), where="here")

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def refusal(port: int, tls: TlsSettings, *, address: str = "localhost") -> str:
    """What `open` refuses to start with: one line."""

    async def run() -> None:
        await make_sender(port, tls, address=address).open()

    with pytest.raises(OutputUnusable) as caught:
        asyncio.run(run())
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def trouble_at_start(port: int, tls: TlsSettings, *, address: str = "localhost") -> str:
    """What a person has to mend at the peer, which is no reason not to start: one line, told once."""

    async def run() -> CollectorError | None:
        async with opened(port, tls, address=address) as sender:
            return sender.trouble

    with capture_logs() as lines:
        trouble = asyncio.run(run())
    assert isinstance(trouble, OutputUnusable)
    [told] = [line for line in lines if line["log_level"] == "error"]
    assert (told["event"], told["code"]) == (str(trouble), "output_unusable")
    assert len(str(trouble).splitlines()) == 1
    return str(trouble)


def warnings_at_start(port: int, tls: TlsSettings | None, *, address: str = "localhost") -> list[str]:
    """What is told where the start goes well."""

    async def run() -> None:
        async with opened(port, tls, address=address):
            pass

    with capture_logs() as lines:
        asyncio.run(run())
    return warnings_in(lines)


@guarantee(23)
def test_a_server_of_another_authority_is_refused(papers: Papers, stranger: Authority) -> None:
    """There is no unverified way; the text says which file to look at."""
    with DevoServer(server_tls(stranger, clients=papers.authority.chain)) as server:
        text = trouble_at_start(server.port, papers.tls)

    assert "the server's certificate is not trusted" in text
    assert "into the file named by `chain`" in text
    assert server.lines == []


def test_a_server_whose_certificate_has_expired_is_refused(papers: Papers) -> None:
    """It is said that it is the server's."""
    expired = papers.authority.issue("server", names=["localhost"], lasts=EXPIRED)
    with DevoServer(server_tls(papers.authority, files=expired)) as server:
        assert "a certificate of the server's chain has expired" in trouble_at_start(server.port, papers.tls)


@guarantee(23)
@pytest.mark.parametrize("address", ["localhost", "127.0.0.1"])
def test_a_server_with_another_name_is_refused_and_its_names_are_told(papers: Papers, address: str) -> None:
    """So that a person sees whether the address or the certificate is wrong."""
    other = papers.authority.issue("server", names=["collector.example", "192.0.2.1"])
    with DevoServer(server_tls(papers.authority, files=other)) as server:
        text = trouble_at_start(server.port, papers.tls, address=address)

    assert f"is for another name: it has collector.example, 192.0.2.1, not {address}" in text


@guarantee(23)
def test_another_name_is_taken_only_where_that_is_set_and_told_at_every_start(papers: Papers) -> None:
    """The chain is verified all the same."""
    other = papers.authority.issue("server", names=["collector.example"])
    lenient = replace(papers.tls, verify_hostname=False)
    with DevoServer(server_tls(papers.authority, files=other)) as server:
        starts = [warnings_at_start(server.port, lenient) for _ in range(2)]

    assert [["verify_hostname is off" in warning for warning in warnings] for warnings in starts] == [
        [True]
    ] * 2


@guarantee(23)
def test_without_names_the_chain_still_has_to_be_right(papers: Papers, stranger: Authority) -> None:
    """`verify_hostname: false` is no way around the authority."""
    with DevoServer(server_tls(stranger, clients=papers.authority.chain)) as server:
        text = trouble_at_start(server.port, replace(papers.tls, verify_hostname=False))

    assert "not trusted" in text


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_that_the_server_refuses_is_told(
    papers: Papers, stranger: Authority, version: ssl.TLSVersion
) -> None:
    """In TLS 1.3 the verdict comes after the handshake, and is waited for."""
    context = server_tls(papers.authority, clients=stranger.chain, newest=version, oldest=version)
    with DevoServer(context) as server:
        text = trouble_at_start(server.port, papers.tls)

    assert "the server refused the client certificate: unknown ca" in text


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_for_a_certificate_gets_none_and_says_so(
    papers: Papers, version: ssl.TLSVersion
) -> None:
    """Where the settings name no certificate."""
    with DevoServer(server_tls(papers.authority, newest=version, oldest=version)) as server:
        text = trouble_at_start(server.port, TlsSettings(papers.authority.chain, None, None))

    assert "the server refused the client certificate" in text


def test_a_client_certificate_that_has_expired_is_told(papers: Papers) -> None:
    """As a warning with its date, and then as the server's refusal."""
    tls = papers.tls_of(lasts=EXPIRED)
    with papers.serve() as server:
        text = trouble_at_start(server.port, tls)
    with papers.serve() as server:
        warned, refused = warnings_at_start(server.port, tls)

    assert "the server refused the client certificate: certificate expired" in text
    assert f"the client certificate {tls.cert} expires at " in warned
    assert "certificate expired; set `cert` and `key`" in refused


def test_certificates_that_expire_soon_are_told_with_their_dates(papers: Papers) -> None:
    """The own 30 days before, the server's 14."""
    near = papers.authority.issue("server", names=["localhost"], lasts=timedelta(days=13))
    with DevoServer(server_tls(papers.authority, files=near)) as server:
        own, servers = warnings_at_start(server.port, papers.tls_of(lasts=timedelta(days=29)))
    with papers.serve() as server:
        none = warnings_at_start(server.port, papers.tls_of(lasts=timedelta(days=31)))

    assert "the client certificate" in own
    assert "the server's certificate expires at 20" in servers
    assert none == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken(papers: Papers, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3, proof by the peer's end included."""
    chunks = make_chunks(20)

    async def run() -> None:
        async with opened(server.port, papers.tls, changed(QUICK, retention_secs=3_600.0)) as sender:
            delivery = asyncio.create_task(sender.deliver(chunks))
            await asyncio.sleep(0)
            await sender.flush()
            await delivery

    with DevoServer(server_tls(papers.authority, newest=version, oldest=version)) as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))

    assert server.lines == lines_in(chunks)


@pytest.mark.parametrize("bits", [1024, 2048])
def test_a_server_whose_key_is_too_weak_is_told_what_it_needs(papers: Papers, bits: int) -> None:
    """Another authority in `chain` would not help; a key of 2,048 bits is enough."""
    files = papers.authority.issue("server", names=["localhost"], key=generate_private_key(65_537, bits))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(files.cert, files.key)
    with DevoServer(context) as server:
        if bits == 2048:
            assert warnings_at_start(server.port, papers.tls) == []
            return
        text = trouble_at_start(server.port, papers.tls)

    assert "a certificate of the server's chain has too weak a key; have the receiver given" in text
    assert "2,048 bits or more" in text
    assert "`chain`" not in text


def test_a_server_that_leaves_in_the_handshake_may_expect_no_tls(papers: Papers) -> None:
    """The text says what to look at; it may pass."""

    async def run() -> CollectorError | None:
        async with answering(b"", []) as port, opened(port, papers.tls) as sender:
            return sender.trouble

    trouble = asyncio.run(run())

    assert isinstance(trouble, OutputUnavailable)
    assert trouble.what == "the server closed the connection in the TLS handshake"
    assert trouble.fix == "set `port` to one where the receiver expects TLS"


def test_an_address_that_no_machine_can_have_stops_the_start(papers: Papers) -> None:
    """It is a mistake of the settings, and no matter of the receiver's."""
    assert refusal(9, papers.tls, address="a..b") == (
        "output wire: address 'a..b' is no host name; set `address` to the receiver's name"
    )


ANSWERS = {
    "an older TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "the server speaks no TLS version from 1.2 on"),
    "no TLS at all": (b"220 mail.example ESMTP\r\n", "the server does not answer in TLS"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_that_speaks_something_else_is_refused(papers: Papers, kind: str) -> None:
    """Nothing is sent in the clear instead."""
    answer, told = ANSWERS[kind]
    heard: list[bytes] = []

    async def run() -> CollectorError | None:
        async with answering(answer, heard) as port, opened(port, papers.tls) as sender:
            return sender.trouble

    trouble = asyncio.run(run())

    assert isinstance(trouble, OutputUnusable)
    assert trouble.what == told
    assert all(words[:1] == b"\x16" for words in heard)


@asynccontextmanager
async def answering(answer: bytes, heard: list[bytes]) -> AsyncIterator[int]:
    """The port of a server that answers anything with `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def test_a_handshake_that_is_never_answered_is_a_warning_at_the_start(papers: Papers) -> None:
    """It may pass: collecting goes on, and the delivery says what is wrong."""

    async def run() -> None:
        settings = changed(QUICK, sending_timeout=0.1, connecting_retries=1)
        async with opened(server.port, papers.tls, settings) as sender:
            await sender.deliver(make_chunks(1))

    with (
        papers.serve(lambda _: Faults(handshakes=False)) as server,
        capture_logs() as lines,
        pytest.raises(OutputUnavailable, match="the TLS handshake took too long"),
    ):
        asyncio.run(run())

    assert "the TLS handshake took too long" in warnings_in(lines)[0]


def test_a_certificate_that_goes_bad_while_running_costs_a_retry(papers: Papers, stranger: Authority) -> None:
    """A server may be mended without a restart here: the delivery raises, and says what to do."""
    with DevoServer(None) as held:
        port = held.port

    async def run() -> None:
        sender = make_sender(port, papers.tls)
        with papers.serve(port=port):
            await sender.open()
        with (
            DevoServer(server_tls(stranger, clients=papers.authority.chain), port=port),
            pytest.raises(
                OutputUnusable, match=r"not trusted.*; put the certificate of the authority"
            ) as caught,
        ):
            await sender.deliver(make_chunks(1))
        assert str(sender.trouble) == str(caught.value)
        with papers.serve(port=port) as mended:
            await sender.deliver(make_chunks(1))
            assert sender.trouble is None
            await sender.close()
            mended.wait_until_over()
            assert mended.lines == lines_in(make_chunks(1))

    with capture_logs() as lines:
        asyncio.run(run())
    assert [(line["log_level"], "not trusted" in line["event"]) for line in lines] == [
        ("error", True),
        ("info", False),
    ]


class TestFiles:
    """Mistakes of the files are found before anything is sent, each named with its option."""

    def check(self, tls: TlsSettings, *parts: str) -> None:
        text = refusal(9, tls)
        assert [part for part in ("output wire: ", *parts) if part not in text] == []

    def test_a_missing_file_is_named(self, papers: Papers, tmp_path: Path) -> None:
        """Whichever it is."""
        gone = tmp_path / "gone.pem"
        told = f"{gone} cannot be read: No such file"
        self.check(replace(papers.tls, chain=gone), f"chain {told}")
        self.check(replace(papers.tls, cert=gone), f"cert {told}")
        self.check(replace(papers.tls, key=gone), f"key {told}")

    def test_a_folder_is_no_file(self, papers: Papers, tmp_path: Path) -> None:
        """The system's own words are told."""
        self.check(replace(papers.tls, cert=tmp_path), "cannot be read: Is a directory")

    def test_a_file_of_another_kind_is_named(self, papers: Papers, tmp_path: Path) -> None:
        """A key for a certificate, a certificate for a key, or something else."""
        odd = tmp_path / "odd.pem"
        odd.write_bytes(b"\x30\x82\x01\x0a")
        self.check(replace(papers.tls, chain=odd), f"chain {odd} holds no certificate in PEM")
        self.check(replace(papers.tls, cert=papers.client.key), "holds no certificate in PEM")
        self.check(replace(papers.tls, key=papers.client.cert), "holds no private key in PEM")

    def test_a_key_of_another_certificate_is_named(self, papers: Papers) -> None:
        """Both files are."""
        other = papers.authority.issue("other")
        what = f"key {other.key} does not belong to cert {papers.client.cert}"
        self.check(replace(papers.tls, key=other.key), what)

    def test_an_encrypted_key_needs_its_password(self, papers: Papers) -> None:
        """It is never asked for at a terminal, and a wrong one is not shown."""
        locked = papers.authority.issue("client", password="open sesame")
        tls = replace(papers.tls, cert=locked.cert, key=locked.key)
        self.check(tls, f"key {locked.key} is encrypted", "set `key_password`")
        wrong = replace(tls, key_password=Secret("swordfish"))
        self.check(wrong, "is not opened by `key_password`")
        assert "swordfish" not in refusal(9, wrong)

        with papers.serve() as server:
            assert warnings_at_start(server.port, replace(tls, key_password=Secret("open sesame"))) == []

    def test_a_password_that_is_not_needed_does_no_harm(self, papers: Papers) -> None:
        """The key is read as it is."""
        with papers.serve() as server:
            assert warnings_at_start(server.port, replace(papers.tls, key_password=Secret("x"))) == []
