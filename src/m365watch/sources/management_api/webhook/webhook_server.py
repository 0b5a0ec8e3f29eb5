"""Receiver and desk of one run, put together: what is received before the run is ready waits for polling."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn, defect_of
from m365watch.common.errors import NeedsOperator
from m365watch.common.model import Feed, TenantId
from m365watch.config.models.webhook import WebhookSection
from m365watch.http.bounded_listener import Limits, Listener, Request, RequestRefused, read_request, reading
from m365watch.registry.ports import FeedSource
from m365watch.sources.management_api.webhook.notification_worker import NotificationDesk
from m365watch.sources.management_api.webhook.payloads import Notifications, judge_head, parse_notifications

_log = structlog.get_logger(__name__)

LIMITS = Limits(connections=64, per_address=None)
"""Microsoft's calls may all come by one proxy."""
CERTIFICATE_EVERY_S = 60.0
"""How often it is seen whether the certificate's files have changed."""
_LOOK_BACK_S = 60.0


@dataclass
class ReceiverFigures:
    """What came so far."""

    notified: int = 0
    validations: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    """Requests by the status they were refused with."""
    foreign: int = 0
    """Notifications about tenants that the address is not about."""


class WebhookServer:
    """Listens until it is closed; hands on what is in order."""

    def __init__(
        self,
        settings: WebhookSection,
        *,
        tenants: frozenset[str],
        clock: Clock,
        on_notified: Callable[[Notifications], None],
        limits: Limits = LIMITS,
    ) -> None:
        """Nothing is opened yet; `tenants` are ids in lower case."""
        self._limits = limits
        self._settings = settings
        self._tenants = tenants
        self._clock = clock
        self._on_notified = on_notified
        self._server: asyncio.Server | None = None
        self._taken_s: list[float] = []
        self._has_warned: set[str] = set()
        self.figures = ReceiverFigures()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None  # noqa: S101 - it was opened
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def change(self, tenants: frozenset[str]) -> None:
        """Take calls about these tenants from now on."""
        self._tenants = tenants

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[WebhookServer]:
        """Listen until the block ends.

        Raises: NeedsOperator: the port, the certificate or its key cannot be used.
        """
        context = load_context(self._settings)
        host, port = self._settings.host, self._settings.port
        listener = Listener("webhook", self._limits, context=context, on_refused=self._count_refused)
        try:
            self._server = await listener.serve(reading(self._connected), host=host, port=port)
        except OSError as error:
            what = f"the webhook cannot listen at {host}:{port}: {error.strerror or error}"
            raise NeedsOperator(
                what, fix="set globals.webhook.listen to a free port of this machine"
            ) from None
        renewing = asyncio.create_task(self._keep_certificate(context)) if context else None
        try:
            yield self
        finally:
            if renewing is not None:
                renewing.cancel()
            self._server.close()
            with suppress(asyncio.CancelledError):
                await self._server.wait_closed()

    async def _keep_certificate(self, context: ssl.SSLContext) -> None:
        """Take a renewed certificate without a restart; one that cannot be used changes nothing."""
        known, going_on = _stamps(self._settings), GoingOn("webhook")
        while True:
            await self._clock.sleep(CERTIFICATE_EVERY_S)
            stamps = _stamps(self._settings)
            if stamps == known:
                continue
            with going_on("certificate"):
                try:
                    load_context(self._settings, into=context)
                except NeedsOperator as error:
                    _log.error(f"{error}; the one before stays in use", code=error.code)
                else:
                    _log.info("webhook: a new certificate is in use")
                known = stamps

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            status = await self._answer(reader, writer)
            if status is not None:
                await _send(writer, status)
        except OSError:
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> HTTPStatus | None:
        """The status that the request is answered with; None where there was none."""
        try:
            request = await read_request(reader, writer, judge_head=self._judge_head)
            if request is None:
                return None
            self._take(parse_notifications(request, self._judge_head(request)))
        except RequestRefused as refused:
            self._count_refused(refused.status)
            return refused.status
        except Exception as error:  # noqa: BLE001 - a request that brings a defect to light stops nothing.
            defect = defect_of(error, where="webhook")
            _log.error(str(defect), code=defect.code)
            return HTTPStatus.INTERNAL_SERVER_ERROR
        return HTTPStatus.OK

    def _judge_head(self, request: Request) -> TenantId:
        return judge_head(request, auth_id=self._settings.auth_id.get_secret_value(), tenants=self._tenants)

    def _take(self, found: Notifications) -> None:
        """Raises: RequestRefused: more requests came than are taken in a minute."""
        now_s = self._clock.monotonic_s()
        self._taken_s = [at_s for at_s in self._taken_s if at_s > now_s - _LOOK_BACK_S]
        if len(self._taken_s) >= self._settings.requests_per_minute:
            raise RequestRefused(HTTPStatus.TOO_MANY_REQUESTS)
        self._taken_s.append(now_s)
        self.figures.validations += found.is_validation
        self.figures.notified += len(found.notified)
        self.figures.foreign += found.foreign
        if found.foreign:
            self._warn_once(
                "foreign",
                f"{found.tenant_id}: the webhook was told of content of another tenant, which is left alone",
            )
        if found.notified:
            self._on_notified(found)

    def _count_refused(self, status: HTTPStatus) -> None:
        self.figures.refused[status] = self.figures.refused.get(status, 0) + 1
        if status == HTTPStatus.UNAUTHORIZED:
            self._warn_once(
                "auth",
                "webhook: a request without the right Webhook-AuthID was refused; more are only counted",
            )
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            self._warn_once("rate", "webhook: more requests came than are taken; polling makes up for them")

    def _warn_once(self, what: str, text: str) -> None:
        if what not in self._has_warned:
            self._has_warned.add(what)
            _log.warning(text)


def load_context(settings: WebhookSection, *, into: ssl.SSLContext | None = None) -> ssl.SSLContext | None:
    """How connections are secured, perhaps put into a context that is in use; None: a proxy sees to it.

    Raises: NeedsOperator: certificate or key cannot be used.
    """
    if settings.certificate_file is None:
        return None
    context = into or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    password = settings.key_password.get_secret_value() if settings.key_password else ""
    try:
        # Never asked for on a terminal: an empty password is wrong, and says so.
        context.load_cert_chain(settings.certificate_file, settings.private_key_file, lambda: password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not a certificate"
        what = f"the webhook's certificate cannot be used: {reason}"
        fix = (
            "see to globals.webhook.certificate_file and private_key_file: one PEM each, that belong together"
        )
        raise NeedsOperator(what, fix=fix, where=str(settings.certificate_file)) from None
    return context


def _stamps(settings: WebhookSection) -> list[int]:
    return [
        _stamp(path) for path in (settings.certificate_file, settings.private_key_file) if path is not None
    ]


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


async def _send(writer: asyncio.StreamWriter, status: HTTPStatus) -> None:
    retry = b"Retry-After: 60\r\n" if status == HTTPStatus.TOO_MANY_REQUESTS else b""
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("latin-1")
    writer.write(line + retry + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


class Receiver:
    """Hands what the server takes to the desk, once there is one."""

    def __init__(self, settings: WebhookSection, *, tenants: Collection[str], clock: Clock) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._clock = clock
        self._desk: NotificationDesk | None = None
        self.server = WebhookServer(settings, tenants=frozenset(tenants), clock=clock, on_notified=self._take)

    async def open(self, closing: AsyncExitStack) -> bool:
        """Whether it listens, until `closing` ends; what is in its way is told, and polling does without."""
        try:
            await closing.enter_async_context(self.server.listening())
        except NeedsOperator as error:
            _log.error(f"{error}; until then the collector only polls", code=error.code)
            return False
        place = f"{self._settings.host}:{self.server.port}"
        _log.info(f"webhook: listening at {place}, where {self._settings.address} has to lead")
        return True

    @asynccontextmanager
    async def working(self, desk: NotificationDesk) -> AsyncIterator[None]:
        """Within the block `desk` gets what is received."""
        self._desk = desk
        task = asyncio.create_task(desk.run(), name="notified")
        try:
            yield
        finally:
            self._desk = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._tell_end(desk)

    def _tell_end(self, desk: NotificationDesk) -> None:
        """What webhook mode has brought, in one line."""
        came, did = self.server.figures, desk.figures
        refused = sum(came.refused.values())
        _log.info(
            f"webhook: {came.notified:,} notifications in this run; {did.made_known:,} blobs became known by "
            f"them, {did.known:,} were known before, {did.left:,} were left to polling; "
            f"{refused:,} calls refused"
        )

    def change(self, feeds: Mapping[Feed, FeedSource]) -> None:
        """Take notifications about these feeds and their tenants from now on."""
        self.server.change(frozenset(feed.tenant_id for feed in feeds))
        if self._desk is not None:
            self._desk.change(feeds)

    def _take(self, found: Notifications) -> None:
        if self._desk is not None:
            self._desk.take(found)
