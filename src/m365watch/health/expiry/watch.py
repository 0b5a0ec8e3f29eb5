"""The watch of a run over its credentials: ends are looked up, and told weeks before they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import msgspec
import structlog

from m365watch.auth.app_registration import Registration, Standing
from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError, LedgerUnavailable, NeedsOperator
from m365watch.common.model import TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.settings import TenantSettings
from m365watch.health.expiry.credential_expiry import (
    ENDED,
    UNANSWERED,
    Judged,
    ends_without_answer,
    is_unasked,
    judge,
    present_ends,
    registered_ends,
    why_not_listed,
    with_answers,
)
from m365watch.health.expiry.expiry_store import MEMORY, KnownApplication, Told, applications_of, body_of
from m365watch.health.expiry.expiry_text import passed_line, unknown_line, warning_line
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.credential_specs import CredentialEnd, Source
from m365watch.registry.ports import Ledger

_log = structlog.get_logger(__name__)

LOOK_EVERY_S = 3_600.0
"""How often ends are compared with the time, and certificate files read again."""
ASK_EVERY = timedelta(days=1)
"""How often Graph is asked about one secret at most, restarts included."""
TENANTS_ASKED_MAX = 20
"""In how many tenants at once an application is looked for that several tenants share."""
LEAVE_S = 2.0
"""How long the end of a run waits for the answer to its first question: a short run has no other."""
CODE = "credential_expires"
"""The `code` of the line about a credential that ends."""

AskGraph = Callable[[TenantSettings], Awaitable[Registration]]


@dataclass(frozen=True, slots=True)
class Application:
    """An application, and the tenants that it reads with the same credentials."""

    tenants: tuple[TenantSettings, ...]
    """At least one; in the order of the configuration."""

    @property
    def input_name(self) -> str:
        """The first input that names it."""
        return self.tenants[0].input_name

    @property
    def client_id(self) -> str:
        """Its id in Entra."""
        return self.tenants[0].client_id

    @property
    def credentials(self) -> tuple[CredentialSettings, ...]:
        """What it may prove itself with."""
        return self.tenants[0].credentials

    @property
    def tenant_ids(self) -> list[TenantId]:
        """The tenants, each once."""
        return list(dict.fromkeys(tenant.tenant_id for tenant in self.tenants))

    @property
    def needs_asking(self) -> bool:
        """Whether Graph alone can know the end of one of its secrets, and there is a Graph to ask."""
        return bool(self.tenants[0].cloud.graph_url and self.client_id) and any(
            one.asks_graph for one in self.credentials
        )

    def to_ask(self, *, first: str, count_max: int) -> list[TenantSettings]:
        """The tenants in which the application may be registered, the likeliest first.

        That is the tenant `first`, where it was found before, then the one that the requests are counted for.
        """
        by_id = {tenant.tenant_id: tenant for tenant in reversed(self.tenants)}
        ordered = sorted(
            map(by_id.__getitem__, self.tenant_ids),
            key=lambda one: (one.tenant_id != first, one.tenant_id != one.publisher_id),
        )
        return ordered[:count_max]


def list_applications(tenants: Iterable[TenantSettings]) -> list[Application]:
    """The applications of `tenants`, in their order."""
    found: dict[tuple[str, Cloud, tuple[CredentialSettings, ...]], list[TenantSettings]] = {}
    for tenant in tenants:
        found.setdefault((tenant.client_id, tenant.cloud, tenant.credentials), []).append(tenant)
    return [Application(tuple(group)) for group in found.values()]


@dataclass(slots=True)
class _Watched:
    """An application, what is known of it, and which of its ends this run has told."""

    application: Application
    known: KnownApplication
    told_ended: set[int]
    told_unknown: set[str]
    """Why ends are unknown, as far as it was told."""


class ExpiryWatch:
    """Watches every application of a run; it is in nobody's way, and its own failures are told once each."""

    def __init__(
        self,
        tenants: Iterable[TenantSettings],
        *,
        ask: AskGraph,
        ledger: Ledger,
        calls: LedgerCalls,
        clock: Clock,
    ) -> None:
        """`ask` asks one tenant's Graph about its application; nothing is known before the first look."""
        self._applications = list_applications(tenants)
        self._ask = ask
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._watched: list[_Watched] | None = None
        self._body: str | None = None
        self._has_looked = asyncio.Event()
        self._is_wanted = asyncio.Event()

    def change(self, tenants: Iterable[TenantSettings]) -> None:
        """Watch the applications of `tenants` from now on; what is known of those that stay is kept."""
        self._applications = list_applications(tenants)
        self._is_wanted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within the block the watch is kept."""
        task = asyncio.create_task(self.run(), name="expiry")
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._has_looked.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            # A question that was cut short was asked, too, and the next run need not wait for it again.
            with suppress(CollectorError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._remember()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.look()
            except LedgerUnavailable:
                """It was told where it happened; what is not remembered is learned again at the next look."""
            except Exception as error:  # noqa: BLE001 - a warning that fails stops no collecting
                defect = defect_of(error, where="expiry of credentials")
                _log.error(str(defect), code=defect.code)
            self._has_looked.set()
            await self._pause()

    async def _pause(self) -> None:
        """Return when the next look is due, or wanted."""
        waits = [
            asyncio.create_task(self._clock.sleep(LOOK_EVERY_S)),
            asyncio.create_task(self._is_wanted.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def look(self) -> None:
        """Learn and judge all ends, and tell what is new; Graph is asked where that is due."""
        if self._watched is None or self._is_wanted.is_set():
            self._is_wanted.clear()
            self._watched = await self._recall()
        due = []
        for watched in self._watched:
            await self._see(watched)
            if self._is_due(watched):
                due.append(watched)
            else:
                self._tell_all(watched)
        for watched in due:
            try:
                await self._look_up(watched)
            finally:
                self._tell_all(watched)
        await self._remember()

    async def _recall(self) -> list[_Watched]:
        """What this run or an earlier one knew of the applications."""
        body = await self._calls(self._ledger.remembered, MEMORY)
        before = {one.key: one for one in applications_of(body)}
        told = {one.known.key: one.told_ended for one in self._watched or ()}
        found = []
        for application in self._applications:
            fresh = KnownApplication(application.input_name, application.client_id, [])
            known = before.get(fresh.key, fresh)
            known.tenants = [str(tenant_id) for tenant_id in application.tenant_ids]
            unknown = {one.note for one in known.credentials}
            found.append(_Watched(application, known, told.get(known.key, set()), unknown))
        self._body = body
        return found

    async def _remember(self) -> None:
        body = body_of([watched.known for watched in self._watched or ()])
        if body != self._body:
            await self._calls(self._ledger.remember, MEMORY, body)
            self._body = body

    async def _see(self, watched: _Watched) -> None:
        """What configuration and files say now, and Graph's last answer where it still holds."""
        credentials = watched.application.credentials
        has_graph = bool(watched.application.tenants[0].cloud.graph_url)
        seed = self._ledger.identity_seed
        present = await _looked_up(credentials, partial(present_ends, seed=seed, has_graph=has_graph))
        watched.known.credentials = with_answers(present, watched.known.credentials)

    def _is_due(self, watched: _Watched) -> bool:
        """Whether Graph has to be asked: once a day, and at once where a secret took another's place."""
        if not watched.application.needs_asking:
            return False
        asked_at, now = watched.known.asked_at, self._clock.now()
        if asked_at is None or not asked_at <= now < asked_at + ASK_EVERY:
            return True
        return any(is_unasked(one) for one in watched.known.credentials)

    async def _look_up(self, watched: _Watched) -> None:
        """Ask the tenants in turn, until one has the application registered."""
        application, known = watched.application, watched.known
        known.asked_at = self._clock.now()
        known.credentials = [
            msgspec.structs.replace(one, note=UNANSWERED) if is_unasked(one) else one
            for one in known.credentials
        ]
        why = UNANSWERED
        for tenant in application.to_ask(first=known.home, count_max=TENANTS_ASKED_MAX):
            try:
                registration = await self._ask(tenant)
            except CollectorError as error:
                why = f"Graph could not be asked: {error.what}"
                if isinstance(error, NeedsOperator):
                    continue
                break
            if registration.standing is Standing.LISTED:
                known.home = str(tenant.tenant_id)
                known.credentials = await self._answered(watched, registration)
                return
            why = why_not_listed(registration.standing)
        known.credentials = ends_without_answer(known.credentials, why)

    async def _answered(self, watched: _Watched, registration: Registration) -> list[CredentialEnd]:
        """The ends of an application's credentials, as its registration has them."""
        now, credentials = self._clock.now(), watched.application.credentials
        known = watched.known.credentials
        look = partial(registered_ends, present=known, registration=registration, now=now)
        return await _looked_up(credentials, look)

    def _tell_all(self, watched: _Watched) -> None:
        """Tell what is new about an application's credentials."""
        known, judged = watched.known, judge(watched.known.credentials, self._clock.now())
        told = [*known.told, *[None] * len(judged)]
        known.told = [self._tell(watched, one, told[place]) for place, one in enumerate(judged)]
        unknown = [one for one in judged if one.end.source is Source.UNKNOWN]
        for one in unknown:
            if one.end.note not in watched.told_unknown:
                _log.info(unknown_line(known, one))
        watched.told_unknown = {one.end.note for one in unknown}

    def _tell(self, watched: _Watched, judged: Judged, told: Told | None) -> Told | None:
        """Tell a threshold that was come to, or that it is over; what was told of the credential then."""
        if judged.ends_at is None:
            return None if judged.end.source is Source.RENEWED else told
        if judged.threshold is None:
            if told is not None:
                _log.info(passed_line(watched.known, judged))
            return None
        is_news = told is None or told.ends_at != judged.ends_at or judged.threshold < told.threshold
        if judged.threshold == ENDED and judged.number not in watched.told_ended:
            # From here on nothing works until somebody acts: each start says so.
            watched.told_ended.add(judged.number)
            is_news = True
        if is_news:
            say = _log.error if judged.stops_collecting else _log.warning
            say(warning_line(watched.known, judged), code=CODE)
        return Told(judged.threshold, judged.ends_at)


async def _looked_up(
    credentials: Sequence[CredentialSettings],
    look: Callable[[Sequence[CredentialSettings]], list[CredentialEnd]],
) -> list[CredentialEnd]:
    """What `look` sees of the credentials; off the event loop where it has files to read."""
    if any(one.reads_files for one in credentials):
        return await asyncio.to_thread(look, credentials)
    return look(credentials)
