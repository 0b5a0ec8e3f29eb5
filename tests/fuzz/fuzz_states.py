"""Files that the collector keeps, as a bad disk or another hand left them; and those of tests and scenarios."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import yaml
from starlette.datastructures import QueryParams

from fuzz_contract import Attempt, Target, allowed, check_line
from fuzz_rules import rule_files
from fuzz_settings import TENANT, laughing
from fuzz_values import changed, json_text, value
from m365watch.board.access.roles import Access, Role
from m365watch.board.query.query_context import read_view
from m365watch.board.query.saved_searches import SavedSearches
from m365watch.board.widgets.template_renderer import Templates
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.config.loader import example_settings, load_settings
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts import triage as desk
from m365watch.detection.rule_test_cases import read_cases, run_cases
from m365watch.detection.rules.rule_library import load_library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.health import collector_status as inspection
from m365watch.health.completeness.feed_audit import memory_name
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.notifications.notification_database import NotificationFile
from m365watch.pipeline.disk_queue import records_in_file
from m365watch_simulator.service.scenario import parse_scenario, scenario_names
from m365watch_testing.clock import START

_FEED = Feed(TenantId(TENANT), ContentType.EXCHANGE)
_MEMORIES = (
    "configuration",
    "expiry",
    "adoption",
    "latency",
    "throttling",
    f"vocabulary/{TENANT}",
    memory_name(_FEED),
)
_DETECTIONS, _NOTIFICATIONS = "detections.sqlite", "notifications.sqlite"
_ANN = Access("ann", Role.ADMIN, tenants=None)


@cache
def good_files() -> dict[str, bytes]:
    """Each file as the product makes it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=START)
        ref = BlobRef(_FEED, "2026$a", START, START)
        ledger.commit_listing(_FEED, Window(START, START), [ref], complete=False, at=START)
        for memory in _MEMORIES:
            ledger.remember(memory, "{}")
        ledger.close()
        DetectionState(folder / _DETECTIONS).close()
        NotificationFile(folder / _NOTIFICATIONS).close()
        searches = SavedSearches(folder)
        searches.keep(_ANN, "a", "/search?q=a", is_shared=True, now_s=0)
        made = {file: (folder / file).read_bytes() for file in (LEDGER_FILE, _DETECTIONS, _NOTIFICATIONS)}
        return made | {"searches": searches.path.read_bytes()}


def files() -> list[bytes]:
    """The file's place in the table, and what is in it."""
    return [b"%d" % number + body for number, body in enumerate(good_files().values())] + [
        b"0",
        b"1SQLite format 3\0",
    ]


def _settings_in(folder: Path) -> Settings:
    path = folder / "m365watch.yaml"
    text = (
        example_settings()
        .replace("<tenant>", TENANT)
        .replace("<application>", "99999999-8888-4777-8666-555555555555")
    )
    path.write_text(text)
    return load_settings(path, environment={"M365_SECRET": "made~up.secret-value"}, for_reading=True)


def _readers(settings: Settings) -> list[Callable[[], object]]:
    """What the commands read of a ledger."""
    return [
        lambda: inspection.read_status(settings, now=START),
        lambda: inspection.read_tenants(settings, now=START),
        lambda: inspection.read_configuration(settings),
        lambda: inspection.read_latency(settings),
        lambda: inspection.read_expiry(settings),
        lambda: inspection.read_vocabularies(settings),
        lambda: inspection.read_audits(settings),
        lambda: inspection.waiting_blobs(settings),
    ]


def _prepare_files(folder: Path) -> Attempt:
    settings = _settings_in(folder)
    state = settings.state_directory
    state.mkdir(parents=True)
    good_files()
    searches = SavedSearches(state)

    def open_ledger() -> None:
        SqliteLedger(state, outputs=frozenset({"lake"}), now=START).close()

    readers: tuple[tuple[Path, list[Callable[[], object]]], ...] = (
        (state / LEDGER_FILE, [*_readers(settings), open_ledger]),
        (
            state / _DETECTIONS,
            [
                lambda: desk.list_alerts(state / _DETECTIONS, desk.AlertsAsked()),
                lambda: desk.read_figures(state / _DETECTIONS),
            ],
        ),
        (state / _NOTIFICATIONS, [lambda: NotificationFile(state / _NOTIFICATIONS).close()]),
        (searches.path, [lambda: searches.list(_ANN)]),
    )

    def attempt(given: bytes) -> None:
        number = given[0] - ord("0") if given[:1].isdigit() else 0
        path, asked = readers[number % len(readers)]
        for left in state.glob(f"{path.stem}*"):
            left.unlink()
        path.write_bytes(given[1:])
        path.chmod(0o600)
        for ask in asked:
            with allowed():
                ask()

    return attempt


def memories() -> list[bytes]:
    """The name of what is remembered, and its JSON."""
    bodies: tuple[dict[str, object], ...] = (
        {},
        {"applications": []},
        {"loaded_s": 1.0, "body": "x"},
        {"at": 1, "span": [1, 2], "hours": [[1, 2, 3]], "missing": [["a", "2026-11-17T09:00:00+00:00"]]},
    )
    return [f"{name}\n{json.dumps(body)}".encode() for name in _MEMORIES for body in bodies]


_KEYS = (
    "applications",
    "loaded_s",
    "refused_s",
    "mistakes",
    "at",
    "span",
    "hours",
    "missing",
    "repaired",
    "remaining",
    "error",
    "fix",
    "asked",
    "ends",
    "kinds",
    "names",
    "counts",
    "silent",
)


def grow_memory(random: Random) -> bytes:
    return random.choice(_MEMORIES).encode() + b"\n" + json_text(random, [value(random, _KEYS)])


def _prepare_memories(folder: Path) -> Attempt:
    settings = _settings_in(folder)
    state = settings.state_directory
    state.mkdir(parents=True)
    path = state / LEDGER_FILE
    path.write_bytes(good_files()[LEDGER_FILE])
    readers = _readers(settings)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")

    def attempt(given: bytes) -> None:
        name, _, body = given.decode("utf-8", "replace").partition("\n")
        database.execute("DELETE FROM memory")
        database.execute("INSERT INTO memory VALUES (?, ?)", (name, body))
        for ask in readers:
            with allowed():
                ask()

    return attempt


_CASES = [
    b"detection: delegation\nhits:\n- name: a\n  records: [{Operation: a, CreationTime: 2026-11-02T09:00:00}]\n  expect: {user: x, severity: low}\n",
    b"rule: One\nsettings: {accepted_domains: [a.example], places: {1.2.3.4: {country: DE, latitude: 1.0, longitude: 2}}}\nnear_misses:\n- name: b\n  records: [{repeat: 12, every: 20s, record: {Operation: 'a{n}', Id: x}}]\n",
]
_CASE_KEYS = (
    "detection",
    "rule",
    "settings",
    "hits",
    "near_misses",
    "name",
    "records",
    "expect",
    "repeat",
    "every",
    "record",
    "places",
    "latitude",
)


def grow_cases(random: Random) -> bytes:
    if random.random() < 0.1:
        return laughing(random, random.choice((b"hits", b"settings", b"detection")))
    made = changed(random, yaml.safe_load(random.choice(_CASES)), _CASE_KEYS)
    return yaml.safe_dump(made).encode("utf-8", "replace")


def _prepare_cases(folder: Path) -> Attempt:
    rules = folder / "rules.yml"
    rules.write_bytes(rule_files()[-3])
    library = load_library([rules])
    path = folder / "cases.yml"

    def attempt(given: bytes) -> None:
        path.write_bytes(given)
        try:
            cases = read_cases(path)
        except (ValueError, OSError) as error:
            check_line(str(error))
            return
        run_cases(cases, library)

    return attempt


def scenarios() -> list[bytes]:
    from importlib.resources import files as resources

    folder = resources("m365watch_simulator") / "scenarios"
    return [(folder / f"{name}.yaml").read_bytes() for name in scenario_names()[::4]]


def grow_scenario(random: Random) -> bytes:
    if random.random() < 0.1:
        return laughing(random, random.choice((b"behaviour", b"rules", b"about")))
    good = yaml.safe_load(random.choice(scenarios()))
    return yaml.safe_dump(
        changed(random, good, ("rules", "behaviour", "about", "at", "status", "times"))
    ).encode("utf-8", "replace")


def _prepare_scenarios(_: Path) -> Attempt:
    def attempt(given: bytes) -> None:
        with allowed():
            parse_scenario(given.decode("utf-8", "replace"), where="mine")

    return attempt


_PEOPLE = (
    _ANN,
    Access("bob", Role.VIEWER, tenants=frozenset({"t1"})),
    Access("cat", Role.ANALYST, tenants=frozenset({"t1", "t2"})),
)


def _prepare_searches(folder: Path) -> Attempt:
    searches, templates = SavedSearches(folder), Templates()
    searches.keep(_ANN, "a", "/search?q=a", is_shared=True, now_s=0)
    database = sqlite3.connect(searches.path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    view = read_view(QueryParams(""), _ANN, now=START)

    def attempt(given: bytes) -> None:
        owner, name, url, tenants = (given.split(b"\n", 3) + [b""] * 3)[:4]
        database.execute("DELETE FROM search")
        # As text, whatever the bytes are: a bad disk leaves any.
        database.execute(
            "INSERT INTO search (owner, name, url, is_shared, tenants, saved_at) VALUES"
            " (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), 1, CAST(? AS TEXT), 0)",
            (owner, name, url, tenants),
        )
        for one in _PEOPLE:
            with allowed():
                templates.render("saved.html", saved=searches.list(one), view=view)

    return attempt


_SEARCHES_KEPT = [
    b'ann\nmine\n/search?q=a\n["t1"]',
    b'bob\n<b>ours</b>\n/search?q=user%3Aann\n["t1","t2"]',
    b"cat\nall\n/sql?sql=SELECT+1\nnull",
    b"eve\n\n\n",
    b'eve\n\x1b[2J\njavascript:x\n{"a":[[[]]]}',
]


def _prepare_queues(folder: Path) -> Attempt:
    path = folder / "0000000001.batch"

    def attempt(given: bytes) -> None:
        path.write_bytes(given)
        records_in_file(path)

    return attempt


def queued() -> list[bytes]:
    import msgspec

    part = {
        "blob": 1,
        "tenant_id": TENANT,
        "content_type": "Audit.Exchange",
        "received_us": 1,
        "records": [b"{}"],
        "tables": ["a"],
        "missing_outputs": ["lake"],
    }
    return [bytes(16) + msgspec.msgpack.encode([part]), bytes(16) + b"\x91" * 3_000, b""]


TARGETS = (
    Target(
        "files",
        _prepare_files,
        files,
        None,
        (b"SQLite format 3\0",),
        input_bytes_max=512 << 10,
        free_cpu_s=3.0,
    ),
    Target(
        "memories", _prepare_memories, memories, grow_memory, tuple(f'"{key}":'.encode() for key in _KEYS)
    ),
    Target("queues", _prepare_queues, queued),
    Target("searches", _prepare_searches, lambda: _SEARCHES_KEPT, None, (b'["', b"null", b"\n")),
    Target(
        "cases",
        _prepare_cases,
        lambda: _CASES,
        grow_cases,
        tuple(f"{key}: ".encode() for key in _CASE_KEYS),
        input_bytes_max=32 << 10,
    ),
    Target("scenarios", _prepare_scenarios, scenarios, grow_scenario, input_bytes_max=32 << 10),
)
