"""What goes wrong in a request, as a document: kind, status, what, and what to do.

Source: RFC 9457, "Problem Details for HTTP APIs".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from m365watch.common.errors import CollectorError

MEDIA_TYPE = "application/problem+json"
PATH = "/api/v1/problems"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One way in which a request goes wrong."""

    code: str
    status: int
    title: str

    @property
    def url(self) -> str:
        """Where it is explained."""
        return f"{PATH}/{self.code}"


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not done."""

    type: str
    """Where the kind of problem is explained."""
    title: str
    """The kind in words, the same every time."""
    status: int
    """The HTTP status."""
    detail: str
    """What was wrong with this request."""
    code: str
    """The kind's name, for programs; of the collector's own errors, that of docs/reference/errors.md."""
    fix: str = ""
    """What to do; empty where the detail says it."""


PARAMETER_WRONG = ProblemKind("parameter_wrong", 400, "A parameter is not as it should be")
BODY_WRONG = ProblemKind("body_wrong", 400, "The body is not as it should be")
TOKEN_NEEDED = ProblemKind("token_needed", 401, "There is no valid token")
SCOPE_MISSING = ProblemKind("scope_missing", 403, "The token is not good for this")
ROLE_MISSING = ProblemKind("role_missing", 403, "The role may not do this")
FORGERY_REFUSED = ProblemKind("forgery_refused", 403, "A change without a token")
NOT_THERE = ProblemKind("not_there", 404, "There is no such thing")
METHOD_WRONG = ProblemKind("method_wrong", 405, "This cannot be done there")
ALERT_CLOSED = ProblemKind("alert_closed", 409, "Somebody has closed the alert")
MEDIA_WRONG = ProblemKind("media_wrong", 415, "The body is of another type")
HOST_REFUSED = ProblemKind("host_refused", 421, "This host is not served here")
TOO_MANY = ProblemKind("too_many", 429, "Too many requests with one token")
DEFECT = ProblemKind("defect", 500, "A defect of the board")
TRAIL_CLOSED = ProblemKind("trail_closed", 503, "It cannot be written down who does this")
UNAVAILABLE = ProblemKind("unavailable", 503, "It cannot be read just now")

KINDS: tuple[ProblemKind, ...] = (
    *(PARAMETER_WRONG, BODY_WRONG, TOKEN_NEEDED, SCOPE_MISSING, ROLE_MISSING, FORGERY_REFUSED),
    *(
        NOT_THERE,
        METHOD_WRONG,
        ALERT_CLOSED,
        MEDIA_WRONG,
        HOST_REFUSED,
        TOO_MANY,
        DEFECT,
        TRAIL_CLOSED,
        UNAVAILABLE,
    ),
)
"""All of them, by their status."""


class Refused(Exception):
    """A request is not done, for this reason."""

    def __init__(
        self, kind: ProblemKind, detail: str, *, fix: str = "", headers: Mapping[str, str] = {}
    ) -> None:
        """Both texts are sentences without their full stop."""
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.fix = fix
        self.headers = headers

    def answer(self) -> Response:
        """It as a response."""
        return problem_answer(self.kind, self.detail, fix=self.fix, headers=self.headers)


def problem_answer(
    kind: ProblemKind, detail: str, *, fix: str = "", code: str = "", headers: Mapping[str, str] = {}
) -> Response:
    """A response that says what went wrong."""
    problem = Problem(kind.url, kind.title, kind.status, detail, code or kind.code, fix)
    return Response(
        msgspec.json.encode(problem), status_code=kind.status, media_type=MEDIA_TYPE, headers=dict(headers)
    )


def unavailable_answer(error: CollectorError) -> Response:
    """The response where the lake, the ledger or the alerts cannot be read."""
    return problem_answer(UNAVAILABLE, error.what, fix=error.fix, code=error.code)
