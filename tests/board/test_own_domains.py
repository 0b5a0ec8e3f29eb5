"""Who is outside: of no domain that the settings accept or that a mailbox of the tenant has."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from asking import sources_of, view_of
from m365watch.board.pages import exchange
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.internal_domains import LASTS_S, own_domains
from m365watch.board.query.sql import exchange_queries
from m365watch.board.widgets.widget_types import Grid, Several
from m365watch.common.errors import QueryStopped
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import TENANT, make_batch, make_part

NOW = view_of().now


def at_home(who: str) -> dict[str, Any]:
    return {
        "RecordType": 2,
        "Operation": "MailboxLogin",
        "UserId": who,
        "LogonType": 0,
        "MailboxOwnerUPN": who,
    }


def visit(who: str) -> dict[str, Any]:
    return {**at_home("ann@x.example"), "Operation": "SendAs", "UserId": who, "LogonType": 2}


def run_by(who: str) -> dict[str, Any]:
    return {"RecordType": 1, "Operation": "Set-Mailbox", "UserType": 2, "UserId": who, "ExternalAccess": True}


def forward_to(whom: str) -> dict[str, Any]:
    parameters = [{"Name": "ForwardingSmtpAddress", "Value": f"smtp:{whom}"}]
    return {
        "RecordType": 1,
        "Operation": "Set-Mailbox",
        "UserType": 2,
        "UserId": "ann@x.example",
        "Parameters": parameters,
        "ObjectId": f"forwards to {whom}",
    }


LAKE = (
    at_home("ann@x.example"),
    at_home("bob@second.example"),
    *(visit(one) for one in ("bob@second.example", "cem@third.example", "dee@below.third.example")),
    *(visit(one) for one in ("eve@other.example", "eve@notthird.example")),
    *(run_by(one) for one in ("fay@third.example", "desk@partner.example")),
    *(forward_to(one) for one in ("bob@second.example", "cem@third.example", "eve@other.example")),
)
"""The tenant has mailboxes of two domains, and a third is accepted by the settings."""


def lake_of(folder: Path, collected: Path, records: tuple[dict[str, Any], ...]) -> Sources:
    shutil.copy(collected, folder / "m365watch.json")
    made = f"{NOW - timedelta(hours=3):%Y-%m-%dT%H:%M:%S}"
    texts = [
        {"Id": str(at), "Workload": "Exchange", "CreationTime": made, **one} for at, one in enumerate(records)
    ]
    part = make_part([json.dumps(one, separators=(",", ":")).encode() for one in texts], outputs=["lake"])
    AuditWriter(folder / "lake", app_id="visits").append(make_batch(1, [part]))
    found = sources_of(folder / "m365watch.json")
    accepted = found.settings.detections.model_copy(update={"accepted_domains": frozenset({"third.example"})})
    return replace(found, settings=replace(found.settings, detections=accepted))


@pytest.fixture(scope="module")
def visited(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    found = lake_of(tmp_path_factory.mktemp("domains"), collected, LAKE)
    yield found
    assert found.facts is not None
    found.facts.close()


def people(sources: Sources, query: str = "range=24h") -> set[str]:
    shape = asyncio.run(exchange.outsiders(view_of(query, now=NOW), sources))
    assert isinstance(shape, Several)
    return {row[0].text for part in shape.parts if isinstance(part, Grid) for row in part.rows}


@pytest.mark.parametrize("is_counted", [False, True])
def test_a_colleague_of_another_domain_is_no_outsider(visited: Sources, *, is_counted: bool) -> None:
    """By mailboxes and by the settings, domains below these too; who comes from elsewhere is told."""
    if is_counted:
        assert visited.lake is not None
        keep_rollups(visited.lake)

    assert people(visited) == {"eve@other.example", "eve@notthird.example", "desk@partner.example"}


def test_whose_a_domain_is_does_not_hang_on_the_view(visited: Sources) -> None:
    """Of one person's visits no mailbox of their own domain is in sight."""
    visited.own_domains.clear()
    assert people(visited, "range=24h&user=bob@second.example") == set()
    assert people(visited, "range=24h&user=eve@other.example") == {"eve@other.example"}


def test_colleagues_leave_room_for_outsiders(collected: Path, tmp_path: Path) -> None:
    """However many of them work in each other's mailboxes."""
    busy = [visit(f"c{number}@second.example") for number in range(exchange_queries.PAIRS_MAX)] * 2
    sources = lake_of(tmp_path, collected, (*busy, at_home("bob@second.example"), visit("eve@other.example")))

    assert people(sources) == {"eve@other.example"}


def test_mail_for_a_colleague_of_another_domain_stays_inside(visited: Sources) -> None:
    """It is forwarded, and not outside."""
    shape = asyncio.run(exchange.forwarding(view_of("range=24h", now=NOW), visited))

    assert isinstance(shape, Grid)
    told = [" ".join(cell.text for cell in row) for row in shape.rows]
    assert [one for one in told if "forwards outside" in one] == [
        one for one in told if "other.example" in one
    ]
    assert len([one for one in told if "forwards outside: other.example" in one]) == 1
    assert len([one for one in told if "forwards" in one]) == 3


def test_a_domain_is_own_in_its_tenant_alone(visited: Sources) -> None:
    """What one tenant has is outside of another one; what the settings accept is so nowhere."""
    own = asyncio.run(own_domains(view_of("range=24h", now=NOW), visited))

    def where(domain: str) -> list[bool]:
        return [own.is_own_domain(domain, tenant=one) for one in (TENANT, "another")]

    assert [where(one) for one in ("second.example", "third.example", "other.example")] == [
        [True, False],
        [True, True],
        [False, False],
    ]


def test_the_lake_is_asked_now_and_then(visited: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hardly ever change; and where it cannot say, the settings do, and it is asked again."""
    visited.own_domains.clear()
    asked = 0
    fails = True

    async def ask(*_: object, **__: object) -> list[tuple[str, str]]:
        nonlocal asked
        asked += 1
        if fails:
            raise QueryStopped("busy", fix="try again")
        return [(TENANT, "second.example")]

    monkeypatch.setattr(visited, "ask", ask)

    def is_own(domain: str, *, after_s: float = 0) -> bool:
        view = view_of("range=24h", now=NOW + timedelta(seconds=after_s))
        return asyncio.run(own_domains(view, visited)).is_own_domain(domain, tenant=TENANT)

    assert (is_own("second.example"), is_own("third.example"), asked) == (False, True, 2)
    fails = False
    assert (is_own("second.example"), is_own("second.example", after_s=LASTS_S - 1), asked) == (True, True, 3)
    assert (is_own("second.example", after_s=LASTS_S), asked) == (True, 4)
    visited.own_domains.clear()
