"""Authorities, time-outs and versions of TLS of a network."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Literal

import pytest
from patience import PATIENCE_S
from promises import guarantee

import network_scene
from m365watch.common.errors import SettingsRefused
from m365watch.http.client import Answer, open_session
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.tls import BUNDLE_VARIABLE, check_bundle_variable, make_context
from m365watch_testing.certificates import Authority
from network_scene import (
    _bare_environment,  # noqa: F401 - for every test here
    ask,
    ask_over,
    ended,
    within,
)
from raw_server import RawServer, Say, server_tls

pem = network_scene.pem
Version = Literal["1.2", "1.3"]


@pytest.mark.parametrize("kind", ["file", "folder", "der"])
def test_a_server_of_an_authority_in_the_bundle_is_trusted(tmp_path: Path, kind: str) -> None:
    """One file in PEM, one in DER, or a folder with either and with other things in it."""
    authority = Authority(tmp_path)
    issued = authority.issue("server", names=["localhost"])
    bundle = authority.chain
    if kind == "der":
        bundle = tmp_path / "ca.cer"
        bundle.write_bytes(ssl.PEM_cert_to_DER_cert(authority.chain.read_text()))
    if kind == "folder":
        bundle = tmp_path / "authorities"
        bundle.mkdir()
        (bundle / "README").write_text("what these are for")
        (bundle / "empty.pem").write_bytes(b"")
        (bundle / "corp.crt").write_bytes(b"subject=Corp\n" + authority.chain.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    server = RawServer(tls=context)

    async def main() -> tuple[Answer | str, Answer | str]:
        async with server:
            url = server.url.replace("127.0.0.1", "localhost")
            return await ask_over(NetworkSettings(ca_bundle=bundle), url), await ask_over(UNSET_NETWORK, url)

    trusted, unknown = within(main)

    assert ended(trusted) == b"ok"
    assert str(unknown).startswith("the server's certificate was not accepted (")


@guarantee(23)
def test_the_bundle_takes_the_place_of_the_system_s_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names authorities means these alone, though the system trusts the server."""
    for name in ("system", "bundle"):
        (tmp_path / name).mkdir()
    authority, others = Authority(tmp_path / "system"), Authority(tmp_path / "bundle").chain
    issued = authority.issue("server", names=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    server = RawServer(tls=context)
    monkeypatch.setenv(BUNDLE_VARIABLE, str(authority.chain))

    async def main() -> tuple[Answer | str, Answer | str]:
        async with server:
            url = server.url.replace("127.0.0.1", "localhost")
            return await ask_over(NetworkSettings(ca_bundle=others), url), await ask_over(UNSET_NETWORK, url)

    by_bundle, by_system = within(main)

    assert "certificate was not accepted" in str(by_bundle)
    assert ended(by_system) == b"ok"
    assert len(server.heard) == 1


def test_a_bundle_that_went_after_the_start_is_named(tmp_path: Path) -> None:
    """It is read when the first connection is made; no token leaves without it."""
    said = within(lambda: ask_over(NetworkSettings(ca_bundle=tmp_path / "gone.pem"), "https://127.0.0.1:1/"))

    assert said == (
        f"the CA bundle {tmp_path}/gone.pem is not there; put it into {tmp_path}, or give its whole path"
    )


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (None, "is not there"),
        (b"", "holds no certificate"),
        (b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "holds no certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "has a certificate that cannot be read",
        ),
    ],
)
def test_a_variable_that_names_no_certificates_is_refused(
    tmp_path: Path, content: bytes | None, mistake: str
) -> None:
    """OpenSSL passes over a wrong SSL_CERT_FILE in silence, and then trusts nobody or somebody else."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsRefused) as refused:
        check_bundle_variable({"SSL_CERT_FILE": str(file)})
    check_bundle_variable({})

    assert refused.value.mistakes == [f"SSL_CERT_FILE: {file} {mistake}"]


def test_a_silent_server_is_waited_for_as_long_as_the_network_says() -> None:
    """And one that drips is not silent."""
    server = RawServer(Say(after_s=PATIENCE_S))

    async def main() -> tuple[Answer | str, float]:
        loop = asyncio.get_running_loop()
        async with server:
            began_s = loop.time()
            said = await ask_over(NetworkSettings(read_timeout_in_seconds=0.1), server.url)
            return said, loop.time() - began_s

    said, took_s = within(main)

    assert said == "no answer in time"
    assert took_s < PATIENCE_S / 2


def test_a_command_s_own_patience_holds_where_it_is_shorter() -> None:
    """`why` waits for no answer longer than it says, whatever the network allows."""
    server = RawServer(Say(after_s=PATIENCE_S))

    async def main() -> Answer | str:
        async with server, open_session(stall_s=0.1) as session:
            return await ask(session.over(NetworkSettings(read_timeout_in_seconds=60.0)), server.url)

    assert within(main) == "no answer in time"


def _server_up_to(version: ssl.TLSVersion, pem: Path) -> ssl.SSLContext:
    context = server_tls(pem)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    return context


@guarantee(23)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("newest", "oldest_spoken", "is_taken"),
    [
        pytest.param(
            ssl.TLSVersion.TLSv1_1,
            "1.2",
            False,
            marks=pytest.mark.skipif(not ssl.HAS_TLSv1_1, reason="this OpenSSL has no TLS 1.1 to refuse"),
        ),
        (ssl.TLSVersion.TLSv1_2, "1.2", True),
        (ssl.TLSVersion.TLSv1_2, "1.3", False),
        (ssl.TLSVersion.TLSv1_3, "1.3", True),
    ],
)
def test_no_older_tls_is_spoken_than_the_network_allows(
    pem: Path, newest: ssl.TLSVersion, oldest_spoken: Version, is_taken: bool
) -> None:
    """TLS 1.1 never is, though the server speaks it, as a careless client shows."""
    server = RawServer(tls=_server_up_to(newest, pem))
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    careless.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    careless.set_ciphers("ALL:@SECLEVEL=0")

    async def main() -> tuple[Answer | str, str]:
        async with server:
            network = NetworkSettings(ca_bundle=pem, tls_minimum=oldest_spoken)
            answer = await ask_over(network, server.url.replace("127.0.0.1", "localhost"))
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=careless)
            spoken: str = writer.get_extra_info("ssl_object").version()
            writer.transport.abort()
            return answer, spoken

    answer, spoken = within(main)

    assert spoken == newest.name.replace("_", ".")
    if is_taken:
        assert ended(answer) == b"ok"
    else:
        assert str(answer).startswith("the server's TLS was not accepted (")
        assert server.heard == []


@guarantee(23)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_hosts_and_chains_are_always_verified(pem: Path, version: Version) -> None:
    """There is no setting that turns it off."""
    context = make_context(NetworkSettings(ca_bundle=pem, tls_minimum=version))

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version.name == f"TLSv{version.replace('.', '_')}"
