"""What every API call passes before it is answered: tenant, pace, token, and the scenario's faults."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from m365watch.common.clock import Clock
from m365watch.common.model import CONTENT_TYPES, ContentType
from m365watch_simulator.feed.answers import RightAnswer, refusal_response, right_response, spoilt_response
from m365watch_simulator.feed.refusals import Refusal, refusal
from m365watch_simulator.feed.subscriptions import State
from m365watch_simulator.feed.throttle import Throttle
from m365watch_simulator.service.report import Report
from m365watch_simulator.service.scenario import Answer, Call, Rule
from m365watch_simulator.service.tenant import SimulatedTenant

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
NOTIFIED = "$IsFromNotification"
"""The extra segment of content ids in notifications."""
_NOBODY = "00000000-0000-0000-0000-000000000000"
_METHODS = {
    Call.FETCH: "GetBlob",
    Call.LIST: "GetContent",
    Call.PAGE: "GetContent",
    Call.START: "StartSubscription",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """An API request whose tenant, pace and token are in order."""

    tenant: SimulatedTenant
    query: Mapping[str, str]
    """Keys in lower case."""
    now: datetime
    rule: Rule | None = None
    """The rule that strikes the request."""


AnswerMaker = Callable[[Caller], Awaitable[RightAnswer]]


class Gate:
    """Lets API calls in, and answers them as the scenario wills."""

    def __init__(
        self, tenants: list[SimulatedTenant], *, url: str, clock: Clock, latency_s: float, shared: Throttle
    ) -> None:
        """`url` is where the service listens; `shared` counts the requests without PublisherIdentifier."""
        self.url = url
        self.clock = clock
        self.report = Report()
        self._latency_s = latency_s
        self._shared = shared
        self._tenants = {tenant.identity.tenant_id: tenant for tenant in tenants}
        self._applications = {tenant.identity.client_id: tenant for tenant in tenants}

    async def answered(
        self, request: web.Request, call: Call | str, answer: AnswerMaker
    ) -> web.StreamResponse:
        """The response to an API call; `answer` makes the right one."""
        self.report.requests[str(call)] += 1
        await self.wait()
        try:
            caller = self._admit(request, call)
            if caller.rule is None:
                return right_response(await answer(caller))
            return await self._struck(request, caller, caller.rule, answer)
        except Refusal as refused:
            return refusal_response(refused)

    async def wait(self) -> None:
        """Take the latency that the service is told to have."""
        if self._latency_s:
            await self.clock.sleep(self._latency_s)

    def strike(
        self, tenant: SimulatedTenant, call: Call, subject: str, content_type: ContentType | None = None
    ) -> Rule | None:
        """The rule that strikes this request, counted in the report."""
        rule = tenant.faults.strike(call, subject, content_type)
        if rule is not None:
            self.report.faults[str(rule.answer)] += 1
        return rule

    async def spoilt(
        self, request: web.Request, rule: Rule, right: RightAnswer, *, subject: str
    ) -> web.StreamResponse:
        """The response that `rule` asks for in place of `right`."""
        trap_url = f"{self._trap_base()}/elsewhere"
        return await spoilt_response(
            request, rule, right, clock=self.clock, trap_url=trap_url, subject=subject
        )

    def _admit(self, request: web.Request, call: Call | str) -> Caller:
        query = lower_cased_query(request)
        now = self.clock.now()
        self._require_pace(request, call, query.get("publisheridentifier", ""))
        name = request.match_info["tenant"]
        if GUID.fullmatch(name) is None:
            raise refusal("AF20013", name)
        tenant = self._tenant(name.lower(), call)
        tenant.tokens.require(request.headers.get("Authorization", ""), now)
        rule = None
        if isinstance(call, Call):
            subject, content_type = _subject(request, call, query)
            rule = self.strike(tenant, call, subject, content_type)
        return Caller(tenant, query, now, rule)

    def _tenant(self, name: str, call: Call | str) -> SimulatedTenant:
        """The tenant of the path. But for blobs, the application's id is taken in its place.

        Source: api-contract 1.1, the end.
        """
        tenant = self._tenants.get(name)
        if tenant is None and call is not Call.FETCH:
            tenant = self._applications.get(name)
        if tenant is None:
            raise refusal("AF20052", name) if call is Call.FETCH else refusal("AF20010", name, "another")
        return tenant

    def _require_pace(self, request: web.Request, call: Call | str, publisher: str) -> None:
        now_s = self.clock.monotonic_s()
        within = True
        if not publisher or publisher == _NOBODY:
            self.report.without_publisher += 1
            within = self._shared.allows(now_s)
        elif GUID.fullmatch(publisher) is None:
            raise refusal("AF20002", "PublisherIdentifier", "guid")
        tenant = self._tenants.get(request.match_info["tenant"].lower())
        if tenant is not None:
            within = tenant.throttle.allows(now_s) and within
        if not within:
            self.report.throttled += 1
            status = 403 if tenant is None else tenant.behaviour.throttle_status
            method = _METHODS.get(call, "Get") if isinstance(call, Call) else "Get"
            raise refusal("AF429", method, publisher or _NOBODY, status=status)

    async def _struck(
        self, request: web.Request, caller: Caller, rule: Rule, answer: AnswerMaker
    ) -> web.StreamResponse:
        subject = request.match_info.get("content_id", "the call")
        content_type = CONTENT_TYPES.get(caller.query.get("contenttype", "").lower())
        if content_type is None and "content_id" in request.match_info:
            content_type = content_type_of_id(subject)
        if rule.answer in _EFFECTS and content_type is not None:
            caller.tenant.subscriptions.force(content_type, _EFFECTS[rule.answer])
        right = RightAnswer(b"") if rule.answer in _NEEDLESS else await answer(caller)
        return await self.spoilt(request, rule, self._trapped(request, rule, right), subject=subject)

    def _trapped(self, request: web.Request, rule: Rule, right: RightAnswer) -> RightAnswer:
        """`right` with addresses that nobody may follow, where `rule` asks for them."""
        trap = self._trap_base()
        if rule.answer is Answer.GARBAGE_CONTENT_URI:
            api = re.compile(re.escape(self.url.encode()) + rb"/api/v1\.0/[^/]+(?=/activity/feed/audit/)")
            return RightAnswer(api.sub(trap.encode(), right.body), right.media_type, right.headers)
        following = right.headers.get("NextPageUri")
        if rule.answer is Answer.GARBAGE_NEXT_PAGE and following is not None:
            headers = right.headers | {"NextPageUri": following.replace(f"{self.url}/api/v1.0", trap)}
            return RightAnswer(right.body, right.media_type, headers)
        if rule.answer is Answer.REPEATED_PAGE:
            headers = right.headers | {"NextPageUri": f"{self.url}{request.raw_path}"}
            return RightAnswer(right.body, right.media_type, headers)
        return right

    def _trap_base(self) -> str:
        """Another host name for this service, and a path it does not have.

        Source: api-contract, fact 6.
        """
        port = self.url.rpartition(":")[2]
        return f"http://localhost:{port}/00000000-0000-4000-8000-000000000000"


_EFFECTS = {Answer.DROP_SUBSCRIPTION: State.ABSENT, Answer.DISABLE_SUBSCRIPTION: State.DISABLED}
_NEEDLESS = frozenset(Answer) - {
    Answer.TRUNCATED,
    Answer.TRUNCATED_GZIP,
    Answer.SLOW_DRIP,
    Answer.BOM,
    Answer.PADDED,
    Answer.PRETTY_ARRAY,
    Answer.INVALID_JSON,
    Answer.GARBAGE_CONTENT_URI,
    Answer.GARBAGE_NEXT_PAGE,
    Answer.REPEATED_PAGE,
}
"""Answers in whose place the right one need not be made: nothing takes effect."""


def lower_cased_query(request: web.Request) -> dict[str, str]:
    """The query's pairs, keys in lower case: the service takes them in any."""
    return {key.lower(): value for key, value in request.query.items()}


def content_type_of_id(content_id: str) -> ContentType | None:
    """The content type that a content id names; None if it names none."""
    name = content_id.split("$")[2:3]
    return CONTENT_TYPES.get(name[0].replace("_", ".")) if name else None


def _subject(request: web.Request, call: Call, query: Mapping[str, str]) -> tuple[str, ContentType | None]:
    """What a call is about: a blob for fetches, else a feed."""
    if call is Call.FETCH:
        content_id = request.match_info["content_id"].removesuffix(NOTIFIED)
        return content_id, content_type_of_id(content_id)
    spelling = query.get("contenttype", "").lower()
    return spelling, CONTENT_TYPES.get(spelling)
