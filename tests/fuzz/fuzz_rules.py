"""Rules of other hands, and the language of filters in which people ask."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzz_contract import Attempt, Target, allowed, check_line
from fuzz_records import simulated_records
from fuzz_settings import laughing
from fuzz_values import changed
from m365watch.common.errors import FilterRefused
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, load_library
from m365watch.lake.search.filter_fields import FIELDS
from m365watch.lake.search.filter_parser import read_filter
from m365watch.lake.search.filter_sql import condition_of

TENANT = "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f"
_KEYS = (
    "title", "id", "name", "status", "level", "logsource", "product", "service", "category", "detection", "condition",
    "timeframe", "correlation", "type", "rules", "group-by", "timespan", "gte", "lt", "eq", "field", "aliases", "generate",
    "filter", "action", "m365watch", "entity", "group_by", "quiet", "kind", "several", "low", "rolling", "gradient",
    "deviation", "first_seen", "travel", "threshold", "period", "periods", "learn", "key", "value", "raise", "to", "when",
    "tuning", "check", "contain", "explanation", "risk", "tags", "date", "references", "falsepositives", "selection",
    "Operation", "UserId|contains", "ClientIP|cidr", "Name|re", "Name|re|i|m|s", "X|base64offset|contains", "X|windash", "X|expand",
    "X|fieldref", "X|exists", "X|lt", "X|wide|base64", "CreationTime|hour", "Parameters.ForwardTo|endswith|all", "X|cased", "|contains",
)  # fmt: skip
_WORDS = (
    *(f"{key}: ".encode() for key in _KEYS), b"1 of selection*", b"all of them", b"not ", b" and ", b" or ", b"(a+)+$",
    b"(?=x)", b"\\1", b"[[:alpha:]]", b"(?i)", b"%list%", b"!!python/none", b"&a ", b"*a", b"<<: *a", b"---\n", b"? ", b"|\n", b"event_count",
    b"value_count", b"temporal_ordered", b"999999d", b"0s", b"0.0.0.0/0", b"::/0",
)  # fmt: skip


@cache
def rule_files() -> list[bytes]:
    """Packs that come along, cut to single documents, and forms that they lack."""
    texts = []
    for path in sorted(PACKS_DIRECTORY.rglob("*.yml"))[::5]:
        texts += [part for part in path.read_text(encoding="utf-8").split("\n---\n") if part.strip()][:2]
    return [text.encode() for text in texts[:24]] + [_CORRELATION, _FILTER, _GLOBAL]


_CORRELATION = b"""title: One
name: one
logsource: {product: m365, service: exchange}
detection: {s: {Operation|contains: [a, b], ClientIP|cidr: 10.0.0.0/8, X|re: '^a.*b$'}, condition: s}
level: low
---
title: Many
correlation: {type: event_count, rules: [one], group-by: [UserId], timespan: 1h, condition: {gte: 3}}
level: high
"""
_FILTER = b"""title: Two
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000002
logsource: {product: m365, service: exchange}
detection: {a: {X: '*x?'}, b: [k, v], condition: 1 of them and not b}
m365watch: {kind: several, several: {threshold: 3, period: 1h}, entity: {user: UserId}, explanation: '{user} did'}
---
title: Less
logsource: {product: m365, service: exchange}
filter: {rules: [5f1c6c0e-7d0b-4a51-9a4e-000000000002], s: {UserId: a}, condition: not s}
"""
_GLOBAL = b"""action: global
title: Three
logsource: {product: m365, service: exchange}
---
detection: {s: {Operation: a}, condition: s}
---
detection: {s: {Operation: b}, condition: s}
"""


@cache
def _rules() -> list[Any]:
    return [list(yaml.safe_load_all(text)) for text in rule_files()]


def grow_rules(random: Random) -> bytes:
    """Good rules in which some values are others; now and then aliases of aliases."""
    if random.random() < 0.1:
        return laughing(
            random,
            random.choice((b"title", b"detection", b"m365watch", b"tags", b"correlation", b"logsource")),
        )
    made = changed(random, random.choice(_rules()), _KEYS, chance=0.05)
    documents = made if isinstance(made, list) else [made]
    return yaml.safe_dump_all(documents, allow_unicode=random.random() < 0.5).encode("utf-8", "replace")


def _prepare_rules(folder: Path) -> Attempt:
    records = simulated_records()[:12]

    def attempt(given: bytes) -> None:
        path = folder / "mine.yml"
        path.write_bytes(given)
        library = load_library([path], lists={"list": ("a", "b")})
        for mistake in library.mistakes:
            check_line(str(mistake))
        if library.rules:
            find_alerts(library.rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT)

    return attempt


_FILTERS = [
    b'user:alice operation:"New-InboxRule" -ip:10.0.0.0/8',
    b'(operation:a OR operation:b) AND NOT result:failed ~x raw~"a b"',
    b'user:*@contoso.example,bob type:15 workload:(exchange OR sharepoint) "quoted \\" text"',
]


def grow_filter(random: Random) -> bytes:
    """Fields, values, operators and brackets in any order."""
    from fuzz_values import TEXTS

    parts = []
    for _ in range(random.randrange(1, 12)):
        kind = random.randrange(6)
        if kind < 3:
            parts.append(f"{random.choice(tuple(FIELDS))}{random.choice(':~')}{random.choice(TEXTS)}")
        elif kind == 3:
            parts.append(f'"{random.choice(TEXTS)}"')
        else:
            parts.append(random.choice(("AND", "OR", "NOT", "-", "(", ")", ",", ":", "~", "((", "))")))
    return random.choice((" ", "")).join(parts).encode("utf-8", "replace")


def _prepare_filter(_: Path) -> Attempt:
    import duckdb

    from fuzz_records import batch_of, blobs
    from m365watch.lake.writer.record_columns import tabulate

    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.register("arrived", tabulate(batch_of(blobs()[0])))
    connection.execute("CREATE TABLE audit AS FROM arrived")

    def attempt(given: bytes) -> None:
        text = given.decode("utf-8", "surrogateescape" if given[:1] == b"\xff" else "replace")
        with allowed(FilterRefused):
            condition = condition_of(read_filter(text))
            connection.execute(f"SELECT id FROM audit WHERE {condition.sql}", condition.bound).fetchall()

    return attempt


TARGETS = (
    Target("rules", _prepare_rules, rule_files, grow_rules, _WORDS, free_cpu_s=3.0, input_bytes_max=48 << 10),
    Target("filter", _prepare_filter, lambda: _FILTERS, grow_filter, (b" OR ", b" AND ", b"NOT ", b"user:", b"ip:", b"~", b"raw~"), input_bytes_max=8 << 10),
)  # fmt: skip
