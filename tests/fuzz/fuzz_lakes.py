"""Lakes: files of one that a bad disk has damaged, strangers' SQL on one, and the board's pages and API over one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import structlog
from starlette.datastructures import QueryParams

from fuzz_contract import Attempt, Broken, Loop, Target, allowed, check_line
from fuzz_records import simulated_records
from fuzz_requests import CSRF, Call, OneGate, ask_soundly, call_of, csrf_token
from fuzz_trials import _resident_bytes
from fuzz_values import TEXTS, json_text, texts_in_urls, value
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board, Listening
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import unread_narrowing
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_context import OPTIONS, View, read_view
from m365watch.board.query.query_planner import Query
from m365watch.common.clock import SystemClock
from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, TenantId
from m365watch.config.loader import load_settings
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.delta.table_files import silently
from m365watch.lake.maintenance.integrity_check import check_lake
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.search.filter_parser import read_filter
from m365watch.lake.search.record_search import Finder
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.sql_sandbox.sandbox_process import READING_BYTES, Question, Verdict, _confine, answer
from m365watch.lake.stored_records import list_records
from m365watch.lake.writer.table_writer import WRITE_FAILURES
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch.records.split import split_blob
from m365watch_testing.clock import FakeClock

OURS = TenantId("6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f")
THEIRS = TenantId("0a1b2c3d-0000-4000-8000-00000000000b")
SECRET = "nobody-else-is-to-see-this"
"""Stands in every record of the other tenant, and in a file that no SQL may read."""
NOW = datetime(2026, 11, 17, 16, tzinfo=UTC)
_SLACK_BYTES = 64 << 20
_DEFECTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""What ends a process that has done wrong; a limit ends it otherwise."""
_RECORDS = 12
"""Of each tenant: a lake of a few kilobytes is damaged in many of its places."""
_EVERYTHING = Access("ann", Role.ADMIN, tenants=None)
_ANALYST = Access("bob", Role.ANALYST, tenants=frozenset({OURS}))


def fork() -> int:
    """A child: nothing of it looks at what threads of the parent's were doing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def apart(work: Callable[[], None]) -> None:
    """Do it in a process of its own: the lake's libraries cannot go on in a child of one that has used them."""
    child = fork()
    if child == 0:
        code = 0
        try:
            work()
        except BaseException:  # noqa: BLE001 - a child ends here, whatever it was
            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
            code = 1
        os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise AssertionError("the lake cannot be made")


def make_lake(lake: Path) -> None:
    """Two tenants' records, a batch of each, and the sums that the board keeps of them."""
    records = simulated_records()[:_RECORDS]
    theirs = [
        msgspec.json.encode(msgspec.json.decode(one) | {"UserId": f"{SECRET}@b.example", "ObjectId": SECRET})
        for one in records
    ]

    async def fill() -> None:
        output = LakeOutput("lake", lake, writer_id="fuzz", clock=SystemClock())
        await output.open(last_batch=0, position="")
        for number, (tenant, some) in enumerate(((OURS, list(records)), (THEIRS, theirs)), 1):
            await output.deliver(_batch_of(number, tenant, some))
        await output.close()

    asyncio.run(fill())
    keep_rollups(lake)


def _batch_of(number: int, tenant: TenantId, records: list[bytes]) -> Batch:
    split = split_blob(b"[" + b",".join(records) + b"]", wide=True)
    part = BatchPart(
        blob=BlobKey(number), feed=Feed(tenant, ContentType.EXCHANGE), received_at=NOW, records=split.records,
        headers=split.headers, tables=[TABLE_PREFIX + (one.Workload or "general").lower() for one in split.headers],
        missing_outputs=frozenset({"lake"}),
    )  # fmt: skip
    return Batch(number=number, parts=[part])


def _files_of(lake: Path) -> list[Path]:
    """What is damaged: commits, records, and the board's sums with their notes."""
    found = (*lake.rglob("*.json"), *lake.rglob("*.parquet"), *lake.rglob("_last_checkpoint"))
    return sorted(path.relative_to(lake) for path in found)


# Damaged files. ---------------------------------------------------------------------------------------


@cache
def damaged() -> list[bytes]:
    """The file's place in the order, and what is in it."""
    with TemporaryDirectory() as name:
        lake = Path(name) / "lake"
        apart(lambda: make_lake(lake))
        bodies = [(lake / path).read_bytes() for path in _files_of(lake)]
    # Sums of the same kind are damaged alike: the first of them stand for all.
    return [b"%02d" % place + body for place, body in enumerate(bodies)][:40]


def _prepare_damaged(folder: Path) -> Attempt:
    good, lake = folder / "good", folder / "lake"
    apart(lambda: make_lake(good))
    shutil.copytree(good, lake)
    files, loop = _files_of(good), Loop()

    def attempt(given: bytes) -> None:
        place = int(given[:2]) if given[:2].isdigit() else 0
        path = files[place % len(files)]
        (lake / path).write_bytes(given[2:])
        try:
            for read in _readers(lake, loop):
                read()
        finally:
            shutil.copy(good / path, lake / path)

    return attempt


def _readers(lake: Path, loop: Loop) -> Iterator[Callable[[], object]]:
    """Whoever reads a lake, each opening it anew."""
    yield lambda: _check(lake)
    yield lambda: _ask_board(lake, loop)
    yield lambda: _search(lake)
    yield lambda: _ask_sql(lake)
    yield lambda: _read_back(lake)


def _check(lake: Path) -> None:
    with allowed(*WRITE_FAILURES):
        for problem in check_lake(lake, reads_all=True, progress=silently).problems:
            check_line(problem)


_QUERIES = (
    Query("SELECT operation, CAST(sum(n) AS BIGINT) FROM facts GROUP BY ALL ORDER BY ALL"),
    Query("SELECT user_id, count(*) FROM facts GROUP BY ALL ORDER BY ALL", exact=True),
)


def _view(query: str = "from=2026-11-17T00:00Z&to=2026-11-18T00:00Z", access: Access = _EVERYTHING) -> View:
    return read_view(QueryParams(query), access, now=NOW)


def _ask_board(lake: Path, loop: Loop) -> None:
    with closing(FactsReader(lake)) as facts:
        for query in _QUERIES:
            with allowed():
                loop.run(facts.ask(_view(), query))


def _search(lake: Path) -> None:
    from m365watch.board.query.search_queries import asked_of

    asked = asked_of(_view(), read_filter("a"))
    with closing(Finder(lake)) as finder, allowed():
        for part in finder.plan(asked):
            finder.find(part, asked, rows=3)
            for _ in finder.read(part, asked, in_order=True):
                pass


def _ask_sql(lake: Path) -> None:
    sink = io.BytesIO()
    answer(_question(lake, "SELECT user_id, raw FROM audit"), sink)
    with allowed():
        _judge_answer(lake, sink.getvalue())


def _read_back(lake: Path) -> None:
    with allowed(*WRITE_FAILURES):
        for _ in list_records(lake, since=datetime(2026, 11, 1, tzinfo=UTC)):
            pass


# Strangers' SQL. --------------------------------------------------------------------------------------


def _question(lake: Path, sql: str, *, tenants: list[str] | None = None) -> Question:
    return Question(
        directory=str(lake),
        sql=sql,
        tenants=tenants,
        sees_trail=True,
        limit_s=1.0,
        memory_bytes=128 << 20,
        rows_max=200,
    )


def _judge_answer(lake: Path, told: bytes) -> None:
    """What the reader makes of it: rows, or an error of ours."""
    line, _, body = told.partition(b"\n")
    verdict = msgspec.json.decode(line, type=Verdict)
    LakeReader(lake)._parse(verdict, body)


def _prepare_sandbox(folder: Path) -> Attempt:
    lake, secret = folder / "lake", folder / "secret.csv"
    apart(lambda: make_lake(lake))
    secret.write_text(f"a\n{SECRET}\n")
    present = _present(folder)

    def attempt(given: bytes) -> None:
        sql = given.replace(b"@SECRET@", str(secret).encode()).replace(b"@LAKE@", str(lake).encode())
        told = _confined(_question(lake, sql.decode("utf-8", "replace"), tenants=[OURS]))
        if SECRET.encode() in told and SECRET.encode() not in given:
            raise Broken("shows what is not theirs")
        if _present(folder) != present:
            raise Broken("makes or removes a file")
        if told:
            with allowed():
                _judge_answer(lake, told)

    return attempt


def _present(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def _confined(question: Question) -> bytes:
    """What the sandbox's process says; nothing where the system has ended it at a limit."""
    reads, writes = os.pipe()
    child = fork()
    if child == 0:
        os.close(reads)
        code = 0
        try:
            _confine(question)
            with os.fdopen(writes, "wb", closefd=False) as sink:
                answer(question, sink)
        except BaseException as error:  # noqa: BLE001 - what the process would end with
            os.write(writes, f"{type(error).__name__}: {error}"[:200].encode("utf-8", "replace"))
            code = 1
        os._exit(code)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        said = told.read()
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if (
        used.ru_maxrss << 10
        > _resident_bytes(fresh=False) + question.memory_bytes + READING_BYTES + _SLACK_BYTES
    ):
        raise Broken("takes more memory than it may")
    if code > 0:
        raise Broken(f"the process fails: {said[-200:].decode('utf-8', 'replace')}")
    if -code in _DEFECTS:
        raise Broken(f"the process ends with {signal.Signals(-code).name}")
    return said if code == 0 else b""


_SQL = [
    b"SELECT user_id, count(*) FROM audit WHERE operation = 'x' GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    b'WITH a AS (SELECT * FROM "cloud.office365.management.exchange") SELECT * FROM a JOIN audit USING (id)',
    b"SELECT * FROM audit", b"SELECT * FROM test_all_types()", b"SHOW TABLES", b"DESCRIBE audit", b"SUMMARIZE audit",
    b"SELECT field(raw, '$.Operation'), raw->>'$.Parameters[0].Name' FROM audit",
    b"SELECT * FROM read_csv('@SECRET@')", b"SELECT * FROM '@SECRET@'", b"SELECT * FROM read_text('@SECRET@')",
    b"SELECT * FROM read_parquet('@LAKE@/audit/*/*.parquet')", b"SELECT * FROM glob('@LAKE@/*')",
    b"COPY audit TO '@LAKE@/stolen.csv'", b"ATTACH '@LAKE@/x.db'", b"SELECT getenv('PATH')",
    b"SELECT repeat('x', 2000000000)", b"SELECT count(*) FROM range(100000000000)", b"SELECT list(x) FROM range(1e9::BIGINT) t(x)",
    b"WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM a) SELECT max(n) FROM a",
    b"SELECT * FROM audit a, audit b, audit c, audit d, audit e, audit f",
    b"SELECT TIMESTAMP '9999-12-31 23:59:59', INTERVAL 3 MONTH, 1::UHUGEINT, MAP {'a': 1}, DATE 'infinity', TIME '24:00:00'",
    b"SELECT a" + b"<" * 4_000, b"(" * 2_000, b"SELECT 1; SELECT 2", b"PRAGMA version",
    b"SELECT * FROM query('SELECT 1')", b"SELECT * FROM duckdb_settings()", b"PIVOT audit ON operation USING count(*)",
]  # fmt: skip
_PIECES = (
    "audit", "alerts", "quarantine", "collectors_out", "exchange", '"cloud.office365.management"', "information_schema.tables",
    "duckdb_functions()", "duckdb_tables()", "duckdb_views()", "pragma_table_info('audit')", "sqlite_master", "range(9)",
    "range(1000000000)", "generate_series(1, 100)", "repeat_row('a', num_rows=9)", "test_all_types()", "test_vector_types(1)",
    "read_csv('@SECRET@')", "read_json('@LAKE@/audit/_delta_log/00000000000000000000.json')", "read_text('@SECRET@')",
    "read_blob('@SECRET@')", "parquet_metadata('@LAKE@/audit/*/*')", "sniff_csv('@SECRET@')", "glob('@LAKE@/**')",
    "query_table('audit')", "query('FROM audit')", "unnest([1, 2, 3])", "(VALUES (1), (2)) v(a)", "summary(audit)",
)  # fmt: skip
_TERMS = (
    "*", "count(*)", "user_id", "raw", "created_at", "day", "1", "'x'", "NULL", "raw->>'$.Id'", "field(raw, '$.a')", "hash(raw)",
    "repeat(raw, 100000)", "string_agg(raw, ',')", "list(raw)", "regexp_replace(raw, '(a+)+$', '')", "histogram(user_id)",
    "epoch_us(created_at) // 7", "make_timestamp(9223372036854775807)", "INTERVAL (999999) MONTH", "1e400", "2::DECIMAL(38, 37)",
    "uuid()", "'\\xff'::BLOB", "'1001'::BIT", "{'a': [1, {'b': 2}]}", "MAP([1, 2], ['a', 'b'])", "union_value(k := 1)",
    "TIMETZ '12:00:00+15:59'", "TIMESTAMPTZ '294247-01-10'", "DATE '5877642-06-25 (BC)'", "-170141183460469231731687303715884105728",
    "getvariable('a')", "current_setting('temp_directory')", "getenv('HOME')", "read_text('@SECRET@')", "error('a\nb\x1b[2J')",
    "list_transform(range(9), lambda x: x + 1)", "list_reduce(range(1000000), lambda a, b: a + b)", "version()", "txid_current()",
    "format('{:>100000000}', 'x')", "lpad('x', 1000000000, 'y')", "to_json(raw)", "json_transform(raw, '{\"a\":\"INT\"}')",
    "max_by(raw, day)", "quantile_cont(record_type, 0.5)", "row_number() OVER ()", "sum(record_type) OVER (ORDER BY id)",
)  # fmt: skip


def grow_sql(random: Random) -> bytes:
    """A SELECT of such terms from such places, some of them within others."""
    return _select(random, 0).encode("utf-8", "replace")


def _select(random: Random, depth: int) -> str:
    terms = ", ".join(random.choice(_TERMS) for _ in range(random.randrange(1, 4)))
    inner = depth < 3 and random.random() < 0.3
    place = f"({_select(random, depth + 1)}) t{depth}" if inner else random.choice(_PIECES)
    tail = random.choice(
        ("", "", "", " WHERE record_type > 5", " GROUP BY ALL", " ORDER BY ALL", " LIMIT 3", " USING SAMPLE 3", f", {random.choice(_PIECES)}",
         f" UNION ALL SELECT {random.choice(_TERMS)}", f" WHERE {random.choice(_TERMS)} = {random.choice(_TERMS)}", " QUALIFY 1")
    )  # fmt: skip
    return f"SELECT {terms} FROM {place}{tail}"


# The board's pages and its API. -----------------------------------------------------------------------

_CONFIGURATION = f"""\
inputs:
  office365:
    credentials: {{tenant_id: "{OURS}", client_id: "99999999-8888-4777-8666-555555555555", client_secret: "made-up-secret"}}
outputs:
  lake: {{type: lake, config: {{directory: "lake"}}}}
"""


def alert_of(tenant: TenantId, digit: str, who: str) -> KeptAlert:
    alert = Alert(
        id=AlertId(digit * 32), rule_id="b0800000-0000-4000-8000-000000000000", title=f"Something of {who}",
        severity=Severity.HIGH, tenant=tenant, group=(who,), entities=(("user", who), ("address", "203.0.113.9")),
        first_at_ms=round(NOW.timestamp() * 1000) - 60_000, last_at_ms=round(NOW.timestamp() * 1000), count=3,
        evidence=("11111111-0000-4000-8000-000000000001",), explanation=f"{who} did something.", detection="B08",
    )  # fmt: skip
    return KeptAlert(alert, shown=True)


def _sources(folder: Path) -> Sources:
    path = folder / "m365watch.yaml"
    path.write_text(_CONFIGURATION)
    path.chmod(0o600)
    settings = load_settings(path, environment={}, for_reading=True)
    settings.state_directory.mkdir(parents=True, exist_ok=True)
    state = DetectionState(settings.state_directory / FILE_NAME)
    with state.transaction():
        state.alerts.put(alert_of(OURS, "a", "ann@contoso.example"))
        state.alerts.put(alert_of(THEIRS, "b", f"{SECRET}@b.example"))
    state.close()
    lake = settings.lake_directory
    assert lake is not None
    apart(lambda: make_lake(lake))
    return Sources(settings, FactsReader(lake), FakeClock(NOW))


def _prepare_panels(folder: Path) -> Attempt:
    loop, sources = Loop(), _sources(folder)
    structlog.configure(cache_logger_on_first_use=False)
    listening = Listening("127.0.0.1", 8365)
    bare = replace(_ANALYST, sees_contents=False)
    boards = [Board(sources, gate=OneGate(access), listening=listening) for access in (_ANALYST, bare)]
    token = csrf_token(loop, boards[0])

    async def attend(given: bytes) -> None:
        call = call_of(given.replace(CSRF, token))
        for board in boards:
            status, body = await ask_soundly(board, call)
            if SECRET.encode() in body and SECRET.encode() not in given:
                raise Broken("shows what is not theirs", call.target[:300])
            _judge_api(call, status, body)

    return lambda given: loop.run(attend(given))


def _judge_api(call: Call, status: int, body: bytes) -> None:
    """A program is told what is wrong with its request, in a line; nothing that it asks for is left out."""
    path, _, query = call.target.partition(b"?")
    if not path.startswith(b"/api/v1/"):
        return
    if status == 400:
        check_line(json.loads(body)["detail"])
    unread = unread_narrowing(QueryParams(query.decode("latin-1")).multi_items()) if status == 200 else []
    if unread:
        raise Broken("answers without what was asked for", unread, call.target[:300])


_NAMES = (
    "range", "from", "to", "tenant", "user", "operation", "workload", "ip", "type", "usertype", "result", "app", "not-user", "not-ip",
    "not-type", "limit", "after", "order", "entity", "before", "shown", "at", "typed", "dimension", "value",
    *(one for one in OPTIONS if one != "sql"),
)  # fmt: skip
_RIGHT = {
    "range": ("7d", "24h", "90d"), "from": ("2026-11-17T00:00Z",), "to": ("2026-11-18T00:00Z",), "tenant": (OURS, THEIRS),
    "alert": ("a" * 32, "b" * 32, "aaaa"), "record": ("1795000000:x", "x:y", "99999999999999999999:x", "-1:x"),
    "result": ("ok", "failed"), "type": ("15", "0"), "limit": ("1", "500"), "q": ("a", "user:*", "ip:10.0.0.0/8", "raw~x", "NOT a", "("),
    "by": ("chosen", "before"), "sheet": ("1", "-1", "99999999999"), "dimension": ("user", "ip", "x"), "before": ("1795000000", "9" * 11),
    "ip": ("203.0.113.0/24", "*"), "user": ("*", "ann*", "%"), "instance": ("office365", "../x"), "state": ("open", "all"),
}  # fmt: skip
_PATHS = (
    "/api/v1/alerts", "/api/v1/alerts/aaaa", "/api/v1/records", "/api/v1/openapi.json", "/search/part", "/search/complete", "/values",
    "/search/saved", "/export/search/hits.csv", "/export/search/hits.ndjson", "/narrow", "/metrics", "/readyz",
)  # fmt: skip


def panel_calls() -> list[bytes]:
    """Every panel once over a day, and what else is asked beside them."""
    day = "from=2026-11-17T00:00Z&to=2026-11-18T00:00Z"
    panels = [f"{page.name}/{panel.name}" for page in PAGES if page.name != "sql" for panel in page.panels]
    calls = [f"/api/v1/{one}?{day}&user=%00" for one in panels[::3]] + [
        f"/panel/{one}?{day}" for one in panels
    ]
    calls += [f"/api/v1/alert/{one.name}?{day}&alert={'a' * 32}" for one in PAGES[7].panels]
    calls += [f"{path}?{day}" for path in _PATHS]
    kept = (
        b"POST /search/saved?q=a\nX-CSRF-Token: @CSRF@\nContent-Type: application/json\n\n"
        + json.dumps({"name": "it", "page": "search", "shared": True}).encode()
    )
    return [f"GET {one}\n\n".encode() for one in calls] + [kept]


def grow_panel_call(random: Random) -> bytes:
    """A panel, its export, or the API's answer, with names of parameters that are right and values that are not."""
    page = random.choice([one for one in PAGES if one.name != "sql"])
    panel = random.choice(page.panels).name if page.panels else "x"
    form = random.choice(("/panel/{}/{}", "/export/{}/{}.csv", "/api/v1/{}/{}", "/api/v1/export/{}/{}", ""))
    path = form.format(page.name, panel) or random.choice(_PATHS)
    pairs = ["from=2026-11-17T00:00Z"] * (random.random() < 0.7)
    for _ in range(random.randrange(4)):
        name = random.choice(_NAMES)
        right = _RIGHT.get(name, TEXTS)
        said = random.choice(right) if random.random() < 0.5 else None
        pairs.append(f"{name}={texts_in_urls(random) if said is None else said}")
    if path == "/search/saved" and random.random() < 0.7:
        body = json_text(
            random,
            [
                {"name": random.choice(TEXTS), "page": "search", "shared": random.random() < 0.5},
                value(random, ("name",)),
            ],
        )
        head = f"POST {path}?{'&'.join(pairs)}\nX-CSRF-Token: @CSRF@\nContent-Type: application/json\n\n"
        return head.encode("utf-8", "replace") + body
    return f"GET {path}?{'&'.join(pairs)}\n\n".encode("utf-8", "replace")


TARGETS: tuple[Target, ...] = (
    Target("damaged", _prepare_damaged, damaged, None, (b'{"add":', b'{"remove":', b'{"metaData":', b'{"protocol":', b'{"txn":', b"PAR1", b'"path":', b'"stats":', b'"size":', b"../"),
        input_bytes_max=64 << 10, free_cpu_s=6.0, free_bytes=256 << 20, costs=4),
    Target("sandbox", _prepare_sandbox, lambda: _SQL, grow_sql, tuple(f"{one} ".encode() for one in (*_PIECES, *_TERMS)),
        input_bytes_max=16 << 10, free_cpu_s=4.0, free_bytes=128 << 20, costs=4),
    Target("panels", _prepare_panels, panel_calls, grow_panel_call, tuple(f"&{name}=".encode() for name in _NAMES),
        input_bytes_max=16 << 10, free_cpu_s=6.0, free_bytes=192 << 20, costs=2),
)  # fmt: skip
