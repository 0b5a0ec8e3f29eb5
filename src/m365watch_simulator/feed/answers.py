"""How a scenario's answer goes on the wire in place of the right one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime

from aiohttp import web
from isal import igzip

from m365watch.common.clock import Clock
from m365watch_simulator.feed.refusals import Refusal, html_page, refusal, takes_parts, unauthorized
from m365watch_simulator.service.scenario import Answer, Rule

USUAL_HEADERS = {
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Server": "Microsoft-IIS/8.5",
    "X-AspNet-Version": "4.0.30319",
    "X-Powered-By": "ASP.NET",
}
"""Source: api-contract 2."""

_JSON = "application/json; charset=utf-8"
_DRIPS = 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RightAnswer:
    """What the service would answer on a good day."""

    body: bytes
    media_type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)
    elements: tuple[bytes, ...] = ()
    """The elements of `body`, for the answers that arrange them anew."""


def right_response(answer: RightAnswer) -> web.Response:
    """The response of a good day."""
    headers = {**USUAL_HEADERS, "Content-Type": answer.media_type, **answer.headers}
    return web.Response(body=answer.body, headers=headers)


def refusal_response(refused: Refusal, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal as it goes on the wire."""
    usual = {**USUAL_HEADERS, "Content-Type": refused.media_type, **(headers or {})}
    return web.Response(status=refused.status, body=refused.body, headers=usual)


async def spoilt_response(
    request: web.Request, rule: Rule, right: RightAnswer, *, clock: Clock, trap_url: str, subject: str
) -> web.StreamResponse:
    """The response that `rule` asks for; may take its time or break the connection."""
    refused = _plain_refusal(rule.answer, subject=subject, publisher="simulated")
    if refused is not None:
        return refusal_response(refused)
    match rule.answer:
        case Answer.RETRY_AFTER | Answer.RETRY_AFTER_DATE:
            throttled = refusal("AF429", "Simulated", "simulated", status=429)
            response: web.StreamResponse = refusal_response(throttled, _retry_after(rule, clock))
        case Answer.REDIRECT:
            response = web.Response(status=302, headers={"Location": trap_url})
        case Answer.RESET | Answer.STALL:
            response = await _broken_off(request, rule, clock)
        case Answer.TRUNCATED:
            response = await _cut_short(request, right)
        case Answer.SLOW_DRIP:
            response = await _dripped(request, rule, right, clock)
        case Answer.TRUNCATED_GZIP:
            response = _cut_gzip(request, right)
        case Answer.PADDED:
            response = _padded(request, rule, right)
        case _:
            body = _rearranged(rule, right)
            response = right_response(RightAnswer(body, right.media_type, right.headers))
    return response


def _retry_after(rule: Rule, clock: Clock) -> dict[str, str]:
    if rule.answer is Answer.RETRY_AFTER:
        return {"Retry-After": f"{rule.after_s:g}"}
    return {"Retry-After": format_datetime(clock.now() + timedelta(seconds=rule.after_s), usegmt=True)}


async def _broken_off(request: web.Request, rule: Rule, clock: Clock) -> web.StreamResponse:
    if rule.answer is Answer.STALL:
        await clock.sleep(rule.duration_s)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut_short(request: web.Request, right: RightAnswer) -> web.StreamResponse:
    """Half of the promised length, then the connection ends."""
    response = web.StreamResponse(headers={**USUAL_HEADERS, "Content-Type": right.media_type})
    response.content_length = len(right.body)
    await response.prepare(request)
    await response.write(right.body[: len(right.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _dripped(request: web.Request, rule: Rule, right: RightAnswer, clock: Clock) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={**USUAL_HEADERS, "Content-Type": right.media_type, **right.headers}
    )
    response.content_length = len(right.body)
    await response.prepare(request)
    size = max(1, -(-len(right.body) // _DRIPS))
    for start in range(0, len(right.body), size):
        await clock.sleep(rule.duration_s / _DRIPS)
        await response.write(right.body[start : start + size])
    return response


def _cut_gzip(request: web.Request, right: RightAnswer) -> web.Response:
    """A complete response whose content is half a gzip file, or half an array where gzip is not taken."""
    headers = {**USUAL_HEADERS, "Content-Type": right.media_type}
    if not accepts_gzip(request):
        return web.Response(body=right.body[: len(right.body) // 2], headers=headers)
    packed = igzip.compress(right.body)
    return web.Response(body=packed[: len(packed) // 2], headers={**headers, "Content-Encoding": "gzip"})


def _padded(request: web.Request, rule: Rule, right: RightAnswer) -> web.Response:
    """The right body, with white space up to `size_bytes`."""
    headers = {**USUAL_HEADERS, "Content-Type": right.media_type}
    body = right.body.ljust(rule.size_bytes)
    if not accepts_gzip(request):
        return web.Response(body=body, headers=headers)
    return web.Response(body=igzip.compress(body), headers={**headers, "Content-Encoding": "gzip"})


def _rearranged(rule: Rule, right: RightAnswer) -> bytes:
    if rule.answer is Answer.EMPTY_ARRAY:
        return b"[]"
    if rule.answer is Answer.INVALID_JSON:
        return b"{" + right.body
    if rule.answer is Answer.BOM:
        return _BOM + right.body
    if rule.answer is Answer.PRETTY_ARRAY:
        return b"[\r\n  " + b",\r\n  ".join(right.elements) + b"\r\n]\r\n"
    return right.body


def accepts_gzip(request: web.Request) -> bool:
    """Whether the caller takes gzip."""
    return "gzip" in request.headers.get("Accept-Encoding", "")


def _plain_refusal(answer: Answer, *, subject: str, publisher: str) -> Refusal | None:
    """The refusal behind a scenario's `answer`; None where the answer is of another kind."""
    if answer in (Answer.AF429_AS_403, Answer.AF429_AS_429):
        status = 403 if answer is Answer.AF429_AS_403 else 429
        return refusal("AF429", "Simulated", publisher, status=status)
    if answer in _CODES:
        code = _CODES[answer]
        return refusal(code, subject) if takes_parts(code) else refusal(code)
    if answer in _PAGES:
        return html_page(*_PAGES[answer])
    if answer is Answer.UNAUTHORIZED:
        return unauthorized()
    if answer is Answer.ERROR_OBJECT_200:
        return Refusal(200, refusal("AF50000").body)
    return Refusal(200, b"") if answer is Answer.EMPTY_BODY else None


_CODES = {
    Answer.AF10001: "AF10001",
    Answer.AF50000: "AF50000",
    Answer.EXPIRED: "AF20051",
    Answer.UNKNOWN: "AF20050",
    Answer.INVALID_KEY: "AF20052",
    Answer.NEXT_PAGE_REFUSED: "AF20031",
    Answer.DROP_SUBSCRIPTION: "AF20022",
    Answer.DISABLE_SUBSCRIPTION: "AF20023",
}
_PAGES = {
    Answer.HTML_404: (404, "404 - File or directory not found."),
    Answer.HTML_500: (500, "500 - Internal server error."),
    Answer.HTML_503: (503, "503 - Our services aren't available right now"),
    Answer.TIMEOUT_408: (408, "408 - Request time-out"),
}
