"""The service at the level of HTTP: what every request of the collector is answered, faults included.

It stands where connections stand, below the collector's own session, so that addresses, headers,
codes, tokens and bodies are all judged. It answers by the true time, whatever the collector believes.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from urllib.parse import parse_qs, quote, unquote

from multidict import CIMultiDict
from yarl import URL

from m365watch.common.model import Feed
from m365watch.http.transport import ExchangeFailed, Failure, RawAnswer
from m365watch.sources.management_api.service_clock import OFF_MAX
from m365watch_testing.simulation.content import SERVED, Content, Ill
from m365watch_testing.simulation.faults import Fault
from m365watch_testing.simulation.world import World

LOGIN = "https://login.simulated.example"
MANAGEMENT = "https://manage.simulated.example"
PUBLISHER = "46b472a7-c68e-4adf-8ade-3db49497518e"
FETCHES_MAX = 24
"""Fetches of one tenant that may be under way at once."""
CIRCLES_MAX = 8
"""Pages of one seed that name themselves as the next one."""
COOLDOWN_S = 900.0
"""Between two accepted starts of one subscription."""
_BUDGET_FELT = 0.8
"""The share of the budget that a collector which may ask for more has used up: live requests keep a tenth."""
_HTML = b"<html><body>Something went wrong</body></html>"
_TENANT_PLACE = 3
_ANSWER_S = (0.001, 0.01, 0.05, 0.2, 1.5)


_OF_LATENESS = (Fault.LATE, Fault.INCIDENT)
_OF_INSTANTS = (Fault.SAME_SECOND, Fault.EDGE)
_OF_BODIES = (
    Fault.SAME_CONTENT_ID,
    Fault.DUPLICATES,
    Fault.CHANGED_RECORDS,
    Fault.ODD_RECORDS,
    Fault.GARBAGE,
    Fault.BIG,
)


@dataclass(slots=True)
class Reply:
    """An answer: status, body, headers; or how the connection breaks."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    breaks: Failure | None = None
    """What happens before the answer."""
    breaks_off: bool = False
    """Whether the body ends before its time."""


def af_code(code: str, status: int = 400) -> Reply:
    """The error object of the API."""
    return Reply(status, json.dumps({"error": {"code": code, "message": "as simulated"}}).encode())


class SimulatedService:
    """Answers for all tenants, over all lives."""

    def __init__(self, world: World, random: Random, feeds: list[Feed]) -> None:
        """`random` decides on latencies and on whom a fault strikes."""
        self._world = world
        self._random = random
        self._contents: dict[Feed, list[Content]] = {feed: [] for feed in feeds}
        for content in sorted(world.contents, key=lambda one: (one.created_at, one.content_id)):
            self._contents[content.feed].append(content)
        self._enabled = {feed for feed in feeds if random.random() < 0.3}
        self._disabled = 0
        self._started_at: dict[Feed, datetime] = {}
        self._tokens: dict[str, tuple[str, datetime]] = {}
        self._token_number = 0
        self._circles = 0
        self._arrivals: dict[str, deque[float]] = {}
        self._fetching: dict[str, int] = {}

    def _strike(self, content: Content, *faults: Fault) -> None:
        """What is odd about `content` is felt now, as far as it is among `faults`."""
        for fault in content.marks.intersection(faults):
            self._world.strike(fault)

    def begin_life(self) -> None:
        """Another process: its budget and cooldowns begin anew."""
        self._arrivals.clear()
        self._started_at.clear()
        self._fetching.clear()

    def _is_on(self, fault: Fault, share: float) -> bool:
        is_on = self._world.is_on(fault) and self._random.random() < share
        if is_on:
            self._world.strike(fault)
        return is_on

    async def answer(self, method: str, url: URL, *, headers: Mapping[str, str]) -> Reply:
        """The reply to one request, after the time that it takes."""
        await asyncio.sleep(self._random.choice(_ANSWER_S))
        if str(url).startswith(f"{LOGIN}/"):
            reply = self._token(url.path.split("/")[1])
        elif str(url).startswith(f"{MANAGEMENT}/api/v1.0/"):
            reply = await self._managed(method, url, headers)
        else:
            self._world.accuse(f"a request went to a host that was not configured: {url.host}")
            reply = Reply(404)
        reply.headers["Date"] = format_datetime(self._world.now(), usegmt=True)
        what = f"{method} {url.path.rpartition('/feed/')[2]} {url.query_string[:60]}"
        self._world.history.tell(f"{what}: {reply.breaks or reply.status} {len(reply.body)} bytes")
        return reply

    async def _managed(self, method: str, url: URL, headers: Mapping[str, str]) -> Reply:
        # The address as it went out: what the collector quotes is a part of what is judged.
        path = url.raw_path.split("/")
        tenant = path[_TENANT_PLACE]
        self._count(tenant)
        if f"PublisherIdentifier={PUBLISHER}" not in url.raw_query_string:
            self._world.accuse(f"a request without its publisher: {url.raw_path}")
        trouble = self._trouble(tenant, headers)
        if trouble is not None:
            return trouble
        query = {name.lower(): found[0] for name, found in parse_qs(url.raw_query_string).items()}
        verb = "/".join(path[6:])
        if verb == "subscriptions/list":
            return self._subscriptions(tenant)
        if verb.startswith("audit/"):
            return await self._fetched(tenant, unquote(path[-1]))
        feed = self._feed(tenant, query.get("contenttype", ""))
        if feed is None:
            return af_code("AF20020")
        if verb == "subscriptions/start":
            return self._start(feed) if method == "POST" else Reply(405)
        return self._listed(feed, query) if verb == "subscriptions/content" else Reply(404, _HTML)

    def _count(self, tenant: str) -> None:
        """Hold the collector to its budget: so many requests in any 60 s of one life."""
        limit = self._world.plan.requests_per_minute
        now_s = self._world.elapsed_s
        arrivals = self._arrivals.setdefault(tenant, deque())
        arrivals.append(now_s)
        while arrivals[0] <= now_s - 60.0:
            arrivals.popleft()
        if limit is not None and len(arrivals) > limit * _BUDGET_FELT:
            self._world.strike(Fault.SMALL_BUDGET)
        if limit is not None and len(arrivals) > limit:
            self._world.accuse(f"{len(arrivals)} requests within 60 s, {limit} are allowed")

    def _trouble(self, tenant: str, headers: Mapping[str, str]) -> Reply | None:
        """What stands before any meaning: broken connections, tokens, throttling, errors."""
        if self._is_on(Fault.RESETS, 0.3):
            return Reply(breaks=self._random.choice((Failure.CLOSED, Failure.CLOSED, Failure.OUT_OF_TIME)))
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        owner, until = self._tokens.get(token, ("", self._world.now()))
        if owner and owner != tenant:
            self._world.accuse("a token went to another tenant's address")
        if self._is_on(Fault.NOT_AUTHORISED, 0.15):
            self._tokens.pop(token, None)
        if token not in self._tokens or until <= self._world.now():
            return Reply(401, b'{"Message":"Authorization has been denied for this request."}')
        if self._is_on(Fault.THROTTLED, 0.2):
            return self._throttled()
        if self._is_on(Fault.ERRORS, 0.4):
            return self._random.choice(
                (af_code("AF50000", 500), Reply(503, _HTML), Reply(504), Reply(500, _HTML), Reply(200, _HTML))
            )
        return None

    def _throttled(self) -> Reply:
        reply = self._random.choice((af_code("AF429", 403), af_code("AF429", 429), Reply(429, _HTML)))
        if self._random.random() < 0.5:
            after_s = self._random.choice((1, 5, 30))
            until = self._world.now() + timedelta(seconds=after_s)
            reply.headers["Retry-After"] = self._random.choice(
                (str(after_s), f"{until.astimezone(UTC):%a, %d %b %Y %H:%M:%S GMT}")
            )
        return reply

    def _token(self, tenant: str) -> Reply:
        if self._is_on(Fault.NOT_AUTHORISED, 0.3):
            return self._random.choice((Reply(503), Reply(429), Reply(breaks=Failure.CLOSED)))
        self._token_number += 1
        token = f"token-{self._token_number}"
        life_s = self._world.plan.token_life_s
        self._tokens[token] = (tenant, self._world.now() + timedelta(seconds=life_s + 5))
        return Reply(body=json.dumps({"access_token": token, "expires_in": life_s}).encode())

    def _feed(self, tenant: str, content_type: str) -> Feed | None:
        known = (feed for feed in self._contents if feed.tenant_id == tenant)
        return next((feed for feed in known if feed.content_type == content_type), None)

    def _subscriptions(self, tenant: str) -> Reply:
        listed = [
            {"contentType": feed.content_type, "status": "enabled", "webhook": None}
            for feed in self._contents
            if feed.tenant_id == tenant and feed in self._enabled
        ]
        return Reply(body=json.dumps(listed).encode())

    def _start(self, feed: Feed) -> Reply:
        now = self._world.now()
        before = self._started_at.get(feed)
        if before is not None and (now - before).total_seconds() < COOLDOWN_S - 5.0:
            self._world.accuse(f"{feed.content_type}: its subscription was started twice within the cooldown")
        self._started_at[feed] = now
        if feed in self._enabled:
            return af_code("AF20024")
        self._enabled.add(feed)
        return Reply(body=b'{"contentType":"%s","status":"enabled"}' % feed.content_type.encode())

    def _listed(self, feed: Feed, query: Mapping[str, str]) -> Reply:
        if self._is_on(Fault.DISABLED, 0.3) and self._disabled < 4:
            self._disabled += 1
            self._enabled.discard(feed)
        if feed not in self._enabled:
            return af_code(self._random.choice(("AF20022", "AF20023")))
        try:
            start, end = _instant(query["starttime"]), _instant(query["endtime"])
        except (KeyError, ValueError):
            return af_code("AF20055")
        token = query.get("nextpage", "")
        now = self._world.now()
        if not start < end <= start + timedelta(hours=24) or (not token and self._is_refused(start, now)):
            return af_code(self._random.choice(("AF20055", "AF20030")))
        self._world.listings.append((feed, now, start, end))
        if token and self._is_on(Fault.PAGES_EXPIRE, 0.5):
            return af_code("AF20031")
        shown = [
            one for one in self._contents[feed] if start <= one.created_at < end and one.listed_at <= now
        ]
        for one in self._contents[feed]:
            if start <= one.created_at < end and one.listed_at > now:
                self._strike(one, *_OF_LATENESS)
        return self._page(shown, int(token or 0), query)

    def _is_refused(self, start: datetime, now: datetime) -> bool:
        """Whether a window starts too early."""
        plan, inside = self._world.plan, start - (now - SERVED)
        if inside < timedelta(0):
            return True
        if Fault.NARROW in plan.faults and inside < timedelta(seconds=plan.narrow_s):
            self._world.strike(Fault.NARROW)
            return True
        return False

    def _page(self, shown: list[Content], begin: int, query: Mapping[str, str]) -> Reply:
        size = self._world.plan.page_blobs
        page = shown[begin : begin + size]
        if begin and self._is_on(Fault.PAGES_REPEAT, 0.3):
            page = [*shown[:begin][-2:], *page]
        for content in page:
            content.shown += 1
            if not (self._world.is_on(Fault.LEDGER_LOCKED) or self._world.is_on(Fault.LEDGER_FULL)):
                content.shown_at = self._world.now()
            self._strike(content, *_OF_INSTANTS)
        body = json.dumps([_named(content) for content in page]).encode()
        reply = Reply(body=body)
        goes_in_circles = begin and self._circles < CIRCLES_MAX and self._is_on(Fault.PAGES_REPEAT, 0.2)
        self._circles += bool(goes_in_circles)
        if begin + size < len(shown) or goes_in_circles:
            following = begin if goes_in_circles else begin + size
            reply.headers[self._random.choice(("NextPageUri", "Nextpageuri", "nextpageuri"))] = (
                self._next_page(query, following)
            )
        return reply

    def _next_page(self, query: Mapping[str, str], begin: int) -> str:
        host = MANAGEMENT
        if Fault.FOREIGN_PAGES in self._world.plan.faults and self._random.random() < 0.5:
            self._world.strike(Fault.FOREIGN_PAGES)
            host = self._random.choice(
                ("http://localhost", "https://thief.example", "https://127.0.0.1:8443")
            )
        kept = "&".join(f"{name}={quote(query[name])}" for name in ("contenttype", "endtime", "starttime"))
        return f"{host}/api/v1.0/tenant/activity/feed/subscriptions/content?{kept}&nextpage={begin:06d}"

    async def _fetched(self, tenant: str, content_id: str) -> Reply:
        if self._is_on(Fault.THROTTLED, 0.3):
            # Its own limit: what is fetched is throttled sooner than what is listed.
            return self._throttled()
        under_way = self._fetching[tenant] = self._fetching.get(tenant, 0) + 1
        if under_way > FETCHES_MAX:
            self._world.accuse(f"{under_way} fetches of one tenant under way at once")
        try:
            await asyncio.sleep(self._random.choice(_ANSWER_S))
        finally:
            self._fetching[tenant] -= 1
        named = [
            content
            for feed, contents in self._contents.items()
            if feed.tenant_id == tenant
            for content in contents
            if content.content_id == content_id
        ]
        if not named:
            self._world.accuse(f"content was asked for that was never listed: {content_id}")
            return af_code("AF20050", 404)
        return self._body(named)

    def _body(self, named: list[Content]) -> Reply:
        """The answer for all contents of one id: they expire and are ill together."""
        now = self._world.now()
        if all(content.expires_at <= now for content in named):
            for content in named:
                content.denied = True
            return af_code("AF20051", self._random.choice((400, 410)))
        # Of a part and its whole, the whole one knows everything.
        content = min(named, key=lambda one: (one.part_until is not None, one.created_at))
        if not self._world.is_calm and content.ills:
            for one in named:
                one.failures_served += 1
                # Unknown content that has expired is lost; a clock may be off by a minute.
                one.denied |= one.expires_at <= now + OFF_MAX
            return self._ill(content, content.ills.pop(0), now)
        part = next((one for one in named if one.part_until is not None), content)
        is_part = part.part_until is not None and now < part.part_until
        body = part.body(now) if is_part else content.body(now)
        for one in named:
            self._strike(one, *_OF_BODIES)
        if is_part:
            self._world.strike(Fault.PARTIAL_BLOBS)
        if content.is_sound:
            self._world.held.serve(content.content_id, len(body))
        if self._random.random() < 0.3:
            return Reply(body=gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
        return Reply(body=b"\xef\xbb\xbf" + body if self._random.random() < 0.1 else body)

    def _ill(self, content: Content, ill: Ill, now: datetime) -> Reply:
        body = content.body(now)
        self._world.strike(Fault.CUT_BODIES if ill is Ill.CUT else Fault.POISON)
        if ill is Ill.CUT:
            content.cuts_served += 1
        replies: dict[Ill, Callable[[], Reply]] = {
            Ill.CUT: lambda: Reply(body=body[: self._random.randrange(1, max(2, len(body)))]),
            Ill.HTML: lambda: Reply(body=_HTML),
            Ill.HTML_404: lambda: Reply(404, _HTML),
            Ill.OBJECT: lambda: af_code("AF50000", 200),
            Ill.UNKNOWN: lambda: af_code("AF20050", 404),
            Ill.INVALID: lambda: af_code("AF20052"),
            Ill.EMPTY: Reply,
            Ill.ERROR: lambda: Reply(500, _HTML),
            Ill.SHORT: lambda: Reply(body=body, breaks_off=True),
        }
        return replies[ill]()


class SimulatedTransport:
    """Implements `entra.transport.Transport`: every request is the service's to answer."""

    def __init__(self, service: SimulatedService) -> None:
        self._service = service

    async def exchange(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        body: bytes | None,  # noqa: ARG002 - what is posted is not judged
    ) -> RawAnswer:
        """What the service answers, or how the connection breaks."""
        reply = await self._service.answer(method, url, headers=headers)
        if reply.breaks is not None:
            raise ExchangeFailed(reply.breaks)
        if reply.breaks_off:
            raise ExchangeFailed(Failure.CUT_SHORT)
        return RawAnswer(reply.status, CIMultiDict(reply.headers), reply.body)

    async def close(self) -> None:
        """Nothing is open."""


def _named(content: Content) -> dict[str, str]:
    """What a listing says of a blob; its address is garbage, as it has been seen to be."""
    return {
        "contentUri": f"http://localhost/nobody/activity/feed/audit/{content.content_id}",
        "contentId": content.content_id,
        "contentType": content.feed.content_type,
        "contentCreated": _written(content.created_at),
        "contentExpiration": _written(content.expires_at),
    }


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _instant(said: str) -> datetime:
    return datetime.fromisoformat(said).replace(tzinfo=UTC)
