"""The receiver on a real socket: what is in order gets through, everything else gets a status and no more."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee
from pydantic import SecretStr
from structlog.testing import capture_logs

from m365watch.common.errors import NeedsOperator
from m365watch.common.model import ContentType, TenantId
from m365watch.config.models.webhook import WebhookSection
from m365watch.http.bounded_listener import BODY_BYTES_MAX, HEAD_BYTES_MAX, Limits
from m365watch.sources.management_api.webhook import webhook_server as receiving
from m365watch.sources.management_api.webhook.payloads import Notifications
from m365watch.sources.management_api.webhook.webhook_server import WebhookServer
from m365watch_testing.certificates import Authority
from m365watch_testing.clock import FakeClock

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
OTHER = "22222222-2222-2222-2222-222222222222"
AUTH_ID = "an-auth-id-that-nobody-guesses"
SETTINGS = WebhookSection(
    address="https://hook.example/told", listen="127.0.0.1:0", auth_id=SecretStr(AUTH_ID)
)
CONTENT = "20261117090001500000001$20261117090001500000001$audit_exchange$Audit_Exchange$emea0036"
NOTIFIED = {
    "tenantId": TENANT,
    "clientId": "99999999-8888-4777-8666-555555555555",
    "contentType": "Audit.Exchange",
    "contentId": f"{CONTENT}$IsFromNotification",
    "contentUri": f"https://evil.example/api/v1.0/x/activity/feed/audit/{CONTENT}",
    "contentCreated": "2026-11-17T09:00:48.000Z",
    "contentExpiration": "2026-11-24T09:00:01.500Z",
}


class Running:
    """A receiver, and what it handed on."""

    def __init__(self, settings: WebhookSection = SETTINGS, *, limits: Limits = receiving.LIMITS) -> None:
        self.took: list[Notifications] = []
        self.clock = FakeClock()
        self.server = WebhookServer(
            settings,
            tenants=frozenset({TENANT}),
            clock=self.clock,
            on_notified=self.took.append,
            limits=limits,
        )

    async def connect(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if context else None
        return await asyncio.open_connection("127.0.0.1", self.server.port, ssl=context, server_hostname=name)

    async def send(self, *parts: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """All that comes back for the parts, until the connection ends."""
        reader, writer = await self.connect(context)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def status(self, *parts: bytes, context: ssl.SSLContext | None = None) -> int:
        answer = await self.send(*parts, context=context)
        return int(answer.split(b" ", 2)[1]) if answer else 0


def request(
    body: object = (),
    *,
    method: str = "POST",
    path: str = f"/told/{TENANT}",
    auth: str | None = AUTH_ID,
    head: str = "",
) -> bytes:
    """A request as Microsoft sends it; a `body` of bytes goes as it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    shown = f"Webhook-AuthID: {auth}\r\n" if auth is not None else ""
    lines = f"{method} {path} HTTP/1.1\r\nHost: hook.example\r\n{shown}"
    return f"{lines}Content-Length: {len(content)}\r\n{head}\r\n".encode("latin-1") + content


@asynccontextmanager
async def running(
    settings: WebhookSection = SETTINGS, *, limits: Limits = receiving.LIMITS
) -> AsyncIterator[Running]:
    one = Running(settings, limits=limits)
    async with one.server.listening():
        yield one


def run(
    test: Callable[[Running], Awaitable[None]], settings: WebhookSection = SETTINGS, **more: Limits
) -> None:
    async def main() -> None:
        async with running(settings, **more) as one, asyncio.timeout(PATIENCE_S):
            await test(one)

    asyncio.run(main())


@guarantee(7)
def test_a_validation_and_a_notification_are_taken() -> None:
    """Each with HTTP 200, the only answer that counts at Microsoft; the address in it is not kept."""

    async def test(one: Running) -> None:
        code = {"validationCode": "b4c6"}
        assert await one.status(request(code, head="Webhook-ValidationCode: b4c6\r\n")) == 200
        assert one.took == []
        assert await one.status(request([NOTIFIED])) == 200
        [found] = one.took
        assert (found.tenant_id, found.foreign, found.odd) == (TENANT, 0, 0)
        assert [(n.content_type, n.content_id) for n in found.notified] == [(ContentType.EXCHANGE, CONTENT)]
        assert "evil" not in repr(found)
        assert one.server.figures.validations == 1

    run(test)


@guarantee(7)
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request([NOTIFIED], auth="wrong"), 401),
        (request([NOTIFIED], auth=None), 401),
        (request([NOTIFIED], auth=""), 401),
        (request([NOTIFIED], auth=AUTH_ID[:-1]), 401),
        (request([NOTIFIED], auth="caf\xe9"), 401),
        (request([NOTIFIED], path=f"/told/{OTHER}", auth="wrong"), 401),
        (request([NOTIFIED], path=f"/told/{OTHER}"), 404),
        (request([NOTIFIED], path="/"), 404),
        (request([NOTIFIED], method="GET"), 405),
        (request([NOTIFIED], method="PUT"), 405),
        (request(b""), 400),
        (request(b"{"), 400),
        (request(b"7"), 400),
        (request(b'"text"'), 400),
        (request(b"{}"), 400),
        (request(b"\xff\xfe\x00"), 400),
        (request(b"[" * 500_000), 400),
        (request(b'{"a":' * 100_000), 400),
        (request(b"[]", head="Content-Encoding: gzip\r\n"), 415),
        (request(b"x" * (BODY_BYTES_MAX + 1)), 413),
        (request(b"[]", head=f"X-Long: {'x' * (HEAD_BYTES_MAX + 1)}\r\n"), 431),
        (request(b"[]", path=f"/{'x' * (HEAD_BYTES_MAX + 1)}"), 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (request(b"[]", head="Connection: Upgrade\r\nUpgrade: websocket\r\n"), 400),
        (request([]), 200),
    ],
)
def test_what_is_not_in_order_gets_a_status_and_nothing_else(sent: bytes, status: int) -> None:
    """Who does not know the AuthID learns nothing, not even which tenants there are."""

    async def test(one: Running) -> None:
        # A body that is refused by its head may be cut off while it is still being sent.
        assert await one.status(sent) in {status, *((0,) if status in {413, 431} else ())}
        assert one.server.figures.refused == ({} if status == 200 else {status: 1})
        assert one.took == []
        assert await one.status(request([NOTIFIED])) == 200

    run(test)


@guarantee(7)
def test_a_body_without_an_end_is_cut_off_at_its_bound() -> None:
    """Chunked, so that no length gives it away."""

    async def test(one: Running) -> None:
        head = request(b"", head="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        assert await one.status(head, *[chunk] * 40) in {413, 0}
        assert one.server.figures.refused == {413: 1}
        assert await one.status(request([NOTIFIED])) == 200

    run(test)


def test_a_head_without_an_end_is_cut_off_at_its_bound() -> None:
    """One header that never ends is told to nobody before its end."""

    async def test(one: Running) -> None:
        assert await one.status(b"POST /told HTTP/1.1\r\nX-Long: ", *[b"x" * 0x10000] * 40) in {431, 0}
        assert one.server.figures.refused == {431: 1}
        assert await one.status(request([NOTIFIED])) == 200

    run(test)


@guarantee(7)
def test_who_dawdles_is_cut_off_and_holds_nobody_up() -> None:
    """Byte by byte, or nothing at all: the connection ends in time, and others are served meanwhile."""

    async def test(one: Running) -> None:
        idle = [await one.connect() for _ in range(5)]
        reader, writer = await one.connect()
        writer.write(b"POST /told HTTP/1.1\r\nHost")
        assert await one.status(request([NOTIFIED])) == 200
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        for silent, end in idle:
            assert await silent.read() == b""
            end.close()
        writer.close()
        assert await one.status(request([NOTIFIED])) == 200

    run(test, limits=replace(receiving.LIMITS, head_s=2.0))


@guarantee(7)
def test_more_connections_than_the_limit_keep_no_call_out() -> None:
    """The oldest that has sent no request makes room, whoever it is."""

    async def test(one: Running) -> None:
        idle = [await one.connect() for _ in range(receiving.LIMITS.connections)]
        assert await one.status(request([NOTIFIED])) == 200
        with suppress(ConnectionError):
            assert await idle[0][0].read() == b""
        for _, writer in idle:
            writer.close()

    run(test, limits=replace(receiving.LIMITS, head_s=PATIENCE_S))


def test_more_calls_than_the_bound_are_told_to_come_again() -> None:
    """Only those count that know the AuthID: nobody else can use it up."""

    async def test(one: Running) -> None:
        assert [await one.status(request([], auth="wrong")) for _ in range(4)] == [401] * 4
        assert [await one.status(request([])) for _ in range(3)] == [200, 200, 429]
        assert b"Retry-After: 60" in await one.send(request([]))
        await one.clock.advance(61)
        assert await one.status(request([])) == 200

    run(test, SETTINGS.model_copy(update={"requests_per_minute": 2}))


def test_whoever_waits_for_leave_to_send_the_body_gets_it() -> None:
    """`Expect: 100-continue`, as .NET sends it; who may not, gets the refusal instead of leave."""

    async def test(one: Running) -> None:
        whole = request([NOTIFIED], head="Expect: 100-continue\r\n")
        at = whole.index(b"\r\n\r\n") + 4
        reader, writer = await one.connect()
        writer.write(whole[:at])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(whole[at:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        refused = request([NOTIFIED], head="Expect: 100-continue\r\n", auth="wrong")
        assert (await one.send(refused[: refused.index(b"\r\n\r\n") + 4])).startswith(b"HTTP/1.1 401 ")

    run(test)


def test_content_of_other_tenants_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """It is answered, so that Microsoft does not come again, counted, and told once without its ids."""

    async def test(one: Running) -> None:
        foreign = NOTIFIED | {"tenantId": OTHER}
        assert await one.status(request([foreign, NOTIFIED, 7, {"contentType": "New.Kind"}])) == 200
        assert await one.status(request([foreign])) == 200
        [found] = one.took
        assert (len(found.notified), found.foreign, found.odd) == (1, 1, 2)
        assert one.server.figures.foreign == 2
        assert await one.status(request([], auth="wrong")) == 401

    run(test)
    told = capsys.readouterr().out
    assert told.count("content of another tenant") == 1
    assert AUTH_ID not in told
    assert "wrong" not in told


def issued(folder: Path, name: str) -> tuple[Authority, WebhookSection]:
    folder.mkdir()
    authority = Authority(folder, name)
    files = authority.issue("server", names=["localhost"])
    return authority, SETTINGS.model_copy(
        update={"certificate_file": files.cert, "private_key_file": files.key}
    )


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.chain)


def test_tls_is_spoken_and_a_renewed_certificate_taken(tmp_path: Path) -> None:
    """Without a restart; a file that is no certificate changes nothing, and plain text gets no answer."""
    old, settings = issued(tmp_path / "old", "Old CA")
    new, other = issued(tmp_path / "new", "New CA")

    async def test(one: Running) -> None:
        assert settings.certificate_file is not None
        assert settings.private_key_file is not None
        assert other.certificate_file is not None
        assert other.private_key_file is not None
        assert await one.status(request([NOTIFIED]), context=trusting(old)) == 200
        assert await one.status(request([NOTIFIED])) == 0
        with pytest.raises(ssl.SSLCertVerificationError):
            await one.connect(trusting(new))
        settings.certificate_file.write_text("no certificate")
        await one.clock.advance(receiving.CERTIFICATE_EVERY_S)
        assert await one.status(request([NOTIFIED]), context=trusting(old)) == 200
        settings.private_key_file.write_bytes(other.private_key_file.read_bytes())
        settings.certificate_file.write_bytes(other.certificate_file.read_bytes())
        await one.clock.advance(receiving.CERTIFICATE_EVERY_S)
        assert await one.status(request([NOTIFIED]), context=trusting(new)) == 200

    run(test, settings)


def test_a_certificate_is_renewed_after_a_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and tried again: the one in use would have run out, and nobody had been told why."""
    _, settings = issued(tmp_path / "one", "One CA")
    load, tried = receiving.load_context, list[object]()

    def fail_at_first(given: WebhookSection, *, into: ssl.SSLContext | None = None) -> ssl.SSLContext | None:
        tried.append(into)
        if len(tried) < 3:
            raise RuntimeError("nobody has thought of it")
        return load(given, into=into)

    async def test(one: Running) -> None:
        assert settings.certificate_file is not None
        monkeypatch.setattr(receiving, "load_context", fail_at_first)
        await asyncio.sleep(0)
        os.utime(settings.certificate_file, (1, 1))
        for _ in range(5):
            await one.clock.advance(receiving.CERTIFICATE_EVERY_S)

    with capture_logs() as heard:
        run(test, settings)

    [line] = [one["event"] for one in heard if one["log_level"] == "error"]
    assert len(tried) == 3
    assert line.startswith("webhook: unexpected RuntimeError in ")


def test_a_handshake_that_never_ends_holds_its_place_no_longer_than_a_request(tmp_path: Path) -> None:
    """Half a hello, or nothing at all: counted, and cut off in time; others are answered meanwhile."""
    authority, settings = issued(tmp_path / "one", "One CA")

    async def test(one: Running) -> None:
        idle = [await one.connect() for _ in range(2)]
        idle[0][1].write(b"\x16\x03\x01\x02\x00\x01\x00")
        assert await one.status(request([NOTIFIED]), context=trusting(authority)) == 200
        for reader, writer in idle:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert await one.status(request([NOTIFIED]), context=trusting(authority)) == 200

    run(test, settings, limits=Limits(connections=2, head_s=2.0))


def test_what_cannot_be_listened_with_is_named_with_its_cure(tmp_path: Path) -> None:
    """A port that is taken, a file that is no certificate, a key of another one."""
    _, settings = issued(tmp_path / "one", "One CA")
    _, other = issued(tmp_path / "other", "Other CA")

    async def opened(these: WebhookSection) -> None:
        async with running(these):
            """It should not come so far."""

    async def main() -> None:
        async with running() as one:
            with pytest.raises(NeedsOperator, match=r"cannot listen at 127\.0\.0\.1"):
                await opened(SETTINGS.model_copy(update={"listen": f"127.0.0.1:{one.server.port}"}))
        with pytest.raises(NeedsOperator, match="certificate cannot be used"):
            await opened(settings.model_copy(update={"private_key_file": other.private_key_file}))
        with pytest.raises(NeedsOperator, match="certificate cannot be used"):
            await opened(settings.model_copy(update={"certificate_file": tmp_path / "absent.pem"}))

    asyncio.run(main())
