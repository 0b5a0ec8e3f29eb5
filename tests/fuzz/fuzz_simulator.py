"""Requests to the simulated service, by somebody who has its tokens."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from urllib.parse import quote, urlencode

from fuzz_contract import Attempt, Broken, Loop, Target
from fuzz_requests import call_of
from fuzz_values import TEXTS, json_text, value
from m365watch.common.clock import SystemClock
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running

_ANSWER_BYTES_MAX = 4 << 20
_ANSWER_S_MAX = 30.0
_TOKENS = {b"@API@": "url", b"@GRAPH@": "graph_url"}
"""What stands for a token in a request, and whose it is."""


class _NoRecords:
    def records_between(self, *_: object) -> list[SimulatedRecord]:
        return []


class _Errors(logging.Handler):
    """What aiohttp says of a defect, which it answers with HTTP 500."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


async def _exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(_ANSWER_S_MAX):
        answer = await reader.read(_ANSWER_BYTES_MAX)
        while more := await reader.read(_ANSWER_BYTES_MAX):
            answer = more
    writer.close()
    return answer


def _request_of(given: bytes, tokens: dict[bytes, bytes], tenant: str) -> bytes:
    for mark, token in tokens.items():
        given = given.replace(mark, token)
    call = call_of(given.replace(b"@TENANT@", tenant.encode()))
    own = {b"host", b"connection", b"content-length", b"transfer-encoding", b"upgrade", b"expect"}
    headers = [(name, said) for name, said in call.headers if name not in own]
    headers += [
        (b"Host", b"127.0.0.1"),
        (b"Connection", b"close"),
        (b"Content-Length", b"%d" % len(call.body)),
    ]
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (call.method.encode(), call.target, lines, call.body)


async def _token(running: RunningSimulator, audience: str) -> bytes:
    identity = running.tenants[0].identity
    form = {
        "grant_type": "client_credentials", "client_id": identity.client_id, "client_secret": identity.client_secret,
        "scope": f"{audience}/.default",
    }  # fmt: skip
    lines = f"POST /{identity.tenant_id}/oauth2/v2.0/token\nContent-Type: application/x-www-form-urlencoded\n\n{urlencode(form)}"
    answer = await _exchange(_port(running), _request_of(lines.encode(), {}, identity.tenant_id))
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["access_token"]).encode()


def _port(running: RunningSimulator) -> int:
    return int(running.url.rpartition(":")[2])


def _prepare_simulator(_: Path) -> Attempt:
    loop, errors, stack = Loop(), _Errors(), AsyncExitStack()
    logging.getLogger("aiohttp.server").addHandler(errors)
    settings = SimulationSettings(seed=1, days=0.1, live=False, source=lambda *_: _NoRecords())
    running: RunningSimulator = loop.run(
        stack.enter_async_context(simulator_running(settings, clock=SystemClock()))
    )
    tokens = {mark: loop.run(_token(running, getattr(running, name))) for mark, name in _TOKENS.items()}
    tenant = running.tenants[0].identity.tenant_id

    def attempt(given: bytes, kept: AsyncExitStack = stack) -> None:
        """`kept` keeps the simulator running."""
        answer = loop.run(_exchange(_port(running), _request_of(given, tokens, tenant)))
        said, errors.said = errors.said, []
        if answer.startswith(b"HTTP/1.1 500"):
            raise Broken(_place_of("".join(said)), said)

    return attempt


def _place_of(told: str) -> str:
    """Where in the project a traceback comes from, and its error."""
    ours = re.findall(r'm365watch/(\w+/\w+\.py)", line \d+, in (\w+)', told)
    return f"a defect: {told.strip().rpartition(chr(10))[2].partition(':')[0]} in {' '.join(ours[-1]) if ours else '?'}"


_FEED = "/api/v1.0/@TENANT@/activity/feed"
_PATHS = (
    f"{_FEED}/subscriptions/content", f"{_FEED}/subscriptions/list", f"{_FEED}/subscriptions/start", f"{_FEED}/subscriptions/stop",
    f"{_FEED}/subscriptions/notifications", f"{_FEED}/audit/x", f"{_FEED}/resources/dlpSensitiveTypes", "/@TENANT@/oauth2/token",
    "/@TENANT@/oauth2/v2.0/token", "/graph/v1.0/security/auditLog/queries", "/graph/v1.0/security/auditLog/queries/x/records",
    "/graph/v1.0/admin/serviceAnnouncement/issues", "/graph/v1.0/users", "/graph/v1.0/applications(appId='x')", "/@TENANT@/adminconsent",
    "/@TENANT@/oauth2/v2.0/authorize", "/@TENANT@/openid/authorize", "/@TENANT@/openid/token", "/metadata/identity/oauth2/token",
    "/simulator/truth", "/simulator/report", "/@TENANT@/v2.0/.well-known/openid-configuration",
)  # fmt: skip
_KEYS = (
    "contentType", "startTime", "endTime", "nextPage", "PublisherIdentifier", "grant_type", "client_id", "client_secret", "scope",
    "resource", "code", "redirect_uri", "code_verifier", "client_assertion", "client_assertion_type", "state", "response_type", "$filter",
    "$skiptoken", "$top", "$select", "webhook", "address", "authId", "expiration", "filterStartDateTime", "filterEndDateTime", "displayName",
    "recordTypeFilters", "tenant", "api-version", "prompt", "nonce", "login_hint",
)  # fmt: skip


def calls() -> list[bytes]:
    bearer = "Authorization: Bearer @API@\n"
    return [
        f"GET {_FEED}/subscriptions/content?contentType=Audit.Exchange&startTime=2026-11-17T09:00:00&endTime=2026-11-17T10:00:00\n{bearer}\n".encode(),
        f"POST {_FEED}/subscriptions/start?contentType=Audit.Exchange\n{bearer}Content-Type: application/json\n\n".encode()
        + b'{"webhook":{"address":"https://127.0.0.1:1/x","authId":"a","expiration":""}}',
        f"POST {_FEED}/subscriptions/start?contentType=Audit.Exchange\n{bearer}\n".encode() + b'{"a":' * 2_000,
        b"POST /@TENANT@/oauth2/v2.0/token\nContent-Type: application/x-www-form-urlencoded\n\ngrant_type=client_credentials"
        b"&client_id=x&client_assertion=a.b.c&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        b"POST /graph/v1.0/security/auditLog/queries\nAuthorization: Bearer @GRAPH@\nContent-Type: application/json\n\n"
        b'{"displayName":"a","filterStartDateTime":"2026-11-17T09:00:00Z","filterEndDateTime":"2026-11-17T10:00:00Z"}',
        b"GET /@TENANT@/adminconsent?client_id=x&state=s&redirect_uri=http://localhost/consent\n\n",
        f"POST {_FEED}/subscriptions/start?contentType=Audit.Exchange\n{bearer}\n".encode() + b'{"webhook":{"address":"https://[x/"}}',
    ]  # fmt: skip


def grow_call(random: Random) -> bytes:
    texts = (
        *TEXTS,
        "Audit.Exchange",
        "client_credentials",
        "authorization_code",
        "2026-11-17T09:00:00",
        "a.b.c",
        "9" * 40,
    )
    query = "&".join(
        f"{random.choice(_KEYS)}={quote(random.choice(texts), safe='', errors='surrogatepass')}"
        for _ in range(random.randrange(6))
    )
    method = random.choice(("GET", "GET", "POST", "POST", "PATCH", "DELETE"))
    kind = random.choice(
        (
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain; charset=nonsense",
        )
    )
    head = f"{method} {random.choice(_PATHS)}?{query}\nAuthorization: Bearer {random.choice(('@API@', '@GRAPH@', 'x'))}\nContent-Type: {kind}\n\n"
    said = [value(random, _KEYS), {"webhook": {"address": random.choice(TEXTS), "authId": "a"}}]
    body = query.encode() if random.random() < 0.5 else json_text(random, said)
    return head.encode() + body


TARGETS = (
    Target(
        "simulator", _prepare_simulator, calls, grow_call,
        (b"@API@", b"@GRAPH@", b"@TENANT@", b"Accept-Encoding: gzip\n", b"Accept-Language: en\n", b"Metadata: true\n", *(f"&{key}=".encode() for key in _KEYS)),
        input_bytes_max=32 << 10, free_cpu_s=3.0,
    ),
)  # fmt: skip
