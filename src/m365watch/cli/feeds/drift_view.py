"""What `drift` shows: a table for people, a document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import count
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.common.text import plain
from m365watch.pipeline.schema_drift import Kind, Sighting, Vocabulary, known_names

Shown = Sequence[tuple[Vocabulary, Sighting]]


def is_drift(sighting: Sighting) -> bool:
    """Whether a name is worth a line: it came late, or no document names it."""
    return sighting.is_new or not known_names().has(sighting.kind, sighting.name)


def drift_page(vocabularies: Sequence[Vocabulary], shown: Shown) -> RenderableType:
    """A table per tenant, and what was learned in all; JSON names the blob that brought each."""
    parts: list[RenderableType] = []
    for words in vocabularies:
        rows = [one for owner, one in shown if owner is words]
        parts.append(Text(f"tenant {words.tenant_id}", style="bold"))
        parts += [_table(rows), Text("")] if rows else []
        parts += [Text(_sum(words)), *([] if words is vocabularies[-1] else [Text("")])]
    return Group(*parts)


def drift_document(
    vocabularies: Sequence[Vocabulary], shown: Shown, *, total: int, now: datetime
) -> dict[str, Any]:
    """What `drift --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "total": total,
        "tenants": [
            {
                "tenant": words.tenant_id,
                "since": instant(words.since),
                "learning": words.is_learning(now),
                "names": sum(1 for _ in words),
                "records_looked_into": words.looks,
                "left_out": words.left_out,
            }
            for words in vocabularies
        ],
        "names": [
            {
                "tenant": words.tenant_id,
                "kind": str(one.kind),
                "name": one.name,
                "record_type_name": _type_name(one),
                "new": one.is_new,
                "documented": known_names().has(one.kind, one.name),
                "count": one.count,
                "first_seen": instant(one.first_seen_at),
                "content_id": one.content_id,
            }
            for words, one in shown
        ],
    }


def _table(rows: Sequence[Sighting]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("new", no_wrap=True)
    table.add_column("documented", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first seen", no_wrap=True)
    for one in rows:
        known = known_names().has(one.kind, one.name)
        table.add_row(
            str(one.kind).replace("_", " "),
            Text(plain(f"{one.name} {_type_name(one) or ''}").strip()),
            "yes" if one.is_new else "no",
            "yes" if known else "no",
            f"{one.count:,}",
            f"{one.first_seen_at:%m-%d %H:%MZ}",
        )
    return table


def _type_name(one: Sighting) -> str | None:
    return known_names().record_types.get(one.name) if one.kind is Kind.RECORD_TYPE else None


def _sum(words: Vocabulary) -> str:
    """How much of the tenant is known, and whether anything counts as news yet."""
    if words.since is None:
        return "no record has come yet"
    kinds = [one.kind for one in words]
    known = ", ".join(count(kinds.count(kind), str(kind).replace("_", " ")) for kind in Kind)
    left = f"; {words.left_out:,} names had no room" if words.left_out else ""
    since = f"{words.since:%Y-%m-%d %H:%MZ}"
    return f"{known} known since {since}, {count(words.looks, 'record')} looked into{left}"
