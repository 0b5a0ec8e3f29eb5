"""Records for programs: all that a filter finds, each as Microsoft sent it, one a line."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from m365watch.board.access import Role
from m365watch.board.api.operations import BASE, Call, Operation
from m365watch.board.api.parameters import NARROWING, TIME, option, whole
from m365watch.board.exporting import json_line
from m365watch.board.scopes import Scope
from m365watch.errors import CollectorError
from m365watch.lake.filters.finding import Hit
from m365watch.lake.filters.reading import read_filter

LIMIT, LIMIT_MAX = 1_000, 100_000
MEDIA_TYPE = "application/x-ndjson"


async def _list(call: Call) -> Response:
    most = int(call.one("limit", str(LIMIT)))
    found = call.sources.read_hits(call.view, read_filter(call.one("q")), most=most)
    return StreamingResponse(_lines(found), media_type=MEDIA_TYPE)


async def _lines(chunks: AsyncIterator[list[tuple[Hit, bytes]]]) -> AsyncIterator[bytes]:
    try:
        async for hits in chunks:
            yield b"".join(raw + b"\n" for _, raw in hits)
    except CollectorError as error:
        yield json_line({"error": f"the answer ends here, and is not whole: {error}"})


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
