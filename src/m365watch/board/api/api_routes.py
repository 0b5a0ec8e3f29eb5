"""The routes of the API: each request is checked, asked or done, and answered as a document or a problem."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from math import ceil
from typing import Any
from urllib.parse import urlencode

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from m365watch.board.access.api_tokens import bearer_of
from m365watch.board.access.audit_recorder import tell
from m365watch.board.access.roles import Access, Scope
from m365watch.board.api.alert_operations import alert_operations
from m365watch.board.api.health_operations import standing_operations
from m365watch.board.api.openapi import document_of
from m365watch.board.api.operation import BASE, Call, Operation
from m365watch.board.api.panel_operations import RECORDS, panel_operations
from m365watch.board.api.parameters import read_values
from m365watch.board.api.problem_details import (
    BODY_WRONG,
    DEFECT,
    MEDIA_WRONG,
    METHOD_WRONG,
    NOT_THERE,
    PARAMETER_WRONG,
    ROLE_MISSING,
    SCOPE_MISSING,
    TOKEN_NEEDED,
    TOO_MANY,
    Refused,
    problem_answer,
    unavailable_answer,
)
from m365watch.board.app.alert_actions import body_of
from m365watch.board.app.responses import client_left, while_there
from m365watch.board.app.security_middleware import access_or_none
from m365watch.board.query.data_sources import Sources
from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError, FilterRefused, QueryRefused

PER_SECOND = 10.0
AT_ONCE = 60
"""Permits that a token can save up."""
TOKENS_MAX = 1_000
"""Buckets that are kept; the one that was not used for longest gives way, and begins full."""


class Pace:
    """The buckets of all tokens."""

    def __init__(self, clock: Clock, *, per_second: float = PER_SECOND, at_once: int = AT_ONCE) -> None:
        """Every bucket is full."""
        self._clock = clock
        self._per_second = per_second
        self._at_once = at_once
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, token: str) -> int:
        """0 where the request may be made; otherwise in how many seconds it may."""
        now_s = self._clock.monotonic_s()
        left, since_s = self._buckets.pop(token, (float(self._at_once), now_s))
        left = min(float(self._at_once), left + (now_s - since_s) * self._per_second)
        is_let = left >= 1
        self._buckets[token] = (left - 1 if is_let else left, now_s)
        if len(self._buckets) > TOKENS_MAX:
            self._buckets.popitem(last=False)
        return 0 if is_let else ceil((1 - left) / self._per_second)

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)


@cache
def operations() -> tuple[Operation, ...]:
    """Each of them; a path that is written out stands before one with a name in its place."""
    found = [*standing_operations(api_document), *alert_operations(), RECORDS, *panel_operations()]
    return tuple(sorted(found, key=lambda one: "{" in one.path))


@cache
def _exports() -> re.Pattern[str]:
    paths = (one.path for one in operations() if one.scope in {Scope.EXPORT, Scope.SQL})
    return re.compile("|".join(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(one)) for one in paths))


def takes_along(path: str) -> bool:
    """Whether many records can be taken along at the path: a token needs a scope of its own for it."""
    return _exports().fullmatch(path) is not None


@cache
def api_document() -> dict[str, Any]:
    """The document that describes them."""
    return document_of(operations())


_log = structlog.get_logger(__name__)


class Api:
    """The API over the same sources as the pages, and behind the same guard."""

    def __init__(self, sources: Sources) -> None:
        """Nothing is asked yet; `routes` has all of it."""
        self._sources = sources
        self._pace = Pace(sources.clock)

    @property
    def routes(self) -> list[BaseRoute]:
        """Routes for the application."""
        by_path: dict[str, list[Operation]] = {}
        for one in operations():
            by_path.setdefault(one.path, []).append(one)
        outside = [self._route(path, of) for path, of in by_path.items() if not path.startswith(BASE)]
        inside = [self._route(path, of) for path, of in by_path.items() if path.startswith(BASE)]
        return [*outside, Mount("/api", app=Starlette(routes=inside, exception_handlers=_WRONG_TURNS))]

    def _route(self, path: str, at_it: Sequence[Operation]) -> Route:
        by_method = {one.method: one for one in at_it}

        async def endpoint(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await self._answer(request, by_method[method])

        return Route(path.removeprefix("/api"), endpoint, methods=[*by_method])

    async def _answer(self, request: Request, operation: Operation) -> Response:
        try:
            access = None if operation.is_open else self._let_in(request, operation)
            call = await self._read(request, operation, access)
            return await while_there(request, operation.answer(call))
        except Refused as refused:
            return refused.answer()
        except (FilterRefused, QueryRefused) as error:
            return problem_answer(PARAMETER_WRONG, error.what, fix=error.fix, code=error.code)
        except CollectorError as error:
            return unavailable_answer(error)
        except ClientDisconnect as error:
            return await client_left(request, error)
        except Exception as error:  # noqa: BLE001 - one operation's defect is no other's
            defect = defect_of(error, where=f"board API {operation.name}")
            _log.error(str(defect), code=defect.code)
            return problem_answer(DEFECT, defect.what, fix=defect.fix)

    def _let_in(self, request: Request, operation: Operation) -> Access:
        """Who asks, where they may. Raises: Refused."""
        access = access_or_none(request)
        if access is None:
            raise _unknown(request)
        if access.is_token and (wait_s := self._pace.take(access.token)):
            raise Refused(TOO_MANY, f"ask again in {wait_s} s", headers={"Retry-After": str(wait_s)})
        if operation.scope is not None and not access.allows(operation.scope):
            has = ", ".join(sorted(access.scopes or ()))
            raise Refused(SCOPE_MISSING, f"this needs the scope {operation.scope}; the token has {has}")
        if not access.may(operation.role):
            raise Refused(ROLE_MISSING, f"this is for the role {operation.role.name.lower()}")
        if operation.shows_contents and not access.sees_contents:
            raise Refused(ROLE_MISSING, "this shows what is in records, which the token may not see")
        return access

    async def _read(self, request: Request, operation: Operation, access: Access | None) -> Call:
        """All that the request asks for. Raises: Refused."""
        pairs = [*request.path_params.items(), *request.query_params.multi_items()]
        named = [name for name, _ in request.query_params.multi_items() if name in operation.needs]
        if named:
            raise Refused(PARAMETER_WRONG, f"{named[0]}: it belongs into the path")
        values = read_values(operation.parameters, pairs)
        body = None if operation.body is None else await _body(request, operation.body)
        if operation.asks_by_body:
            asked: dict[str, str] = msgspec.to_builtins(body)
            values = {**values, **{name: (one,) for name, one in asked.items()}}
            told_of = [*request.query_params.multi_items(), *asked.items()]
            request.scope["query_string"] = urlencode(told_of).encode()  # for the trail
        told = partial(tell, request.scope)
        return Call(access, self._sources, self._sources.clock.now(), values, body, told)


async def _body(request: Request, form: type[msgspec.Struct]) -> msgspec.Struct:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(MEDIA_WRONG, "send it with Content-Type: application/json")
    try:
        return msgspec.json.decode(await body_of(request), type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(BODY_WRONG, f"the body cannot be read: {error}") from None


def _unknown(request: Request) -> Refused:
    if bearer_of(request) is None:
        detail, challenge = "send Authorization: Bearer TOKEN", 'Bearer realm="m365watch"'
    else:
        detail = "the token is not known, was revoked, or has expired"
        challenge = 'Bearer realm="m365watch", error="invalid_token"'
    fix = "m365watch board token create makes one"
    return Refused(TOKEN_NEEDED, detail, fix=fix, headers={"WWW-Authenticate": challenge})


async def _not_there(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
    return problem_answer(NOT_THERE, "there is no such path", fix=f"{BASE}/openapi.json names all")


async def _method_wrong(request: Request, error: Exception) -> Response:
    allowed: Mapping[str, str] = (error.headers if isinstance(error, HTTPException) else None) or {}
    return problem_answer(METHOD_WRONG, f"{request.method} cannot be done there", headers=allowed)


_WRONG_TURNS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    404: _not_there,
    405: _method_wrong,
}
