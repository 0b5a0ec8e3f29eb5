"""Records for programs: all that a filter finds, each as Microsoft sent it, one a line."""

from __future__ import annotations

from starlette.responses import Response

from m365watch.board.access.roles import Role
from m365watch.board.access.scopes import Scope
from m365watch.board.api.operation import BASE, Call, Operation
from m365watch.board.api.parameters import NARROWING, TIME, option, whole
from m365watch.board.app.exports import raw_lines
from m365watch.board.app.responses import bit_by_bit
from m365watch.board.query.filter_values import in_records_words
from m365watch.lake.search.filter_parser import read_filter

LIMIT, LIMIT_MAX = 1_000, 100_000
MEDIA_TYPE = "application/x-ndjson"


async def _list(call: Call) -> Response:
    most = int(call.one("limit", str(LIMIT)))
    term = await in_records_words(call.view, call.sources, read_filter(call.one("q")))
    found = call.sources.read_hits(call.view, term, most=most)
    return bit_by_bit(raw_lines(found, what="answer"), media_type=MEDIA_TYPE)


RECORDS = Operation(
    name="records",
    method="GET",
    path=f"{BASE}/records",
    title="Find records",
    says=(
        "Those of the time that the filter `q` holds for, the newest days first, each as Microsoft sent it,"
        " one a line. Where reading ends early, the last line is an object with the key `error` alone."
    ),
    tag="Records",
    answer=_list,
    gives={"type": "string"},
    media_type=MEDIA_TYPE,
    scope=Scope.EXPORT,
    role=Role.ANALYST,
    shows_contents=True,
    parameters=(
        option("q"),
        *TIME,
        *NARROWING,
        whole("limit", f"At most so many; left out, {LIMIT:,}.", 1, LIMIT_MAX),
    ),
)
