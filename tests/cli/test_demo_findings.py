"""What the demo's questions find, and how their answers look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from m365watch.cli.demo.sample_queries import QUESTIONS, Finding, ask, finding_view
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader, QueryAnswer
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_simulator.organization.attacks.attack import Attack
from m365watch_simulator.organization.organization import Organisation
from m365watch_testing.batches import make_simple_batch

TENANT = "2c4b1f60-0a3e-4f0b-b6a9-6f6f2f9a1d07"
NOW = datetime(2026, 11, 18, 13, 30, tzinfo=UTC)
WEEK = timedelta(days=7)
ASKED_FOR = {
    "password_spray": ("user", "address"),
    "inbox_rule_forwarding": ("user", "recipient", "address"),
    "anonymous_links": ("user", "address"),
}
"""The stories that a question is about, and which of their entities its answer shows."""


def drawn(finding: Finding, columns: int) -> str:
    console = Console(width=columns, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(finding_view(finding))
    return capture.get()


@pytest.fixture(scope="module")
def organisation() -> Organisation:
    return Organisation(11, TENANT, records_per_day=300)


@pytest.fixture(scope="module")
def findings(organisation: Organisation, tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """The answers about a week of an organisation."""
    directory = tmp_path_factory.mktemp("demo") / "lake"
    records = [record.body for record in organisation.records_between(NOW - WEEK, NOW)]
    AuditWriter(directory, app_id="test").append(make_simple_batch(1, records, output="lake"))
    return ask(LakeReader(directory))


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_the_demo_shows_who_attacked_from_where(
    organisation: Organisation, findings: list[Finding], columns: int
) -> None:
    """Users, addresses and mailboxes of the stories stand there in full, on the usual terminal too."""
    shown = "".join(drawn(finding, columns) for finding in findings)
    attacks = organisation.attacks(NOW - timedelta(days=6), NOW)
    named = {name for attack in attacks for name in names_shown(attack)}

    assert {attack.story for attack in attacks} >= set(ASKED_FOR)
    assert {name for name in named if name not in shown} == set()
    assert max(map(len, shown.splitlines())) <= columns


def names_shown(attack: Attack) -> list[str]:
    return [name for kind in ASKED_FOR.get(attack.story, ()) for name in attack.entities[kind]]


@pytest.mark.slow
def test_rules_that_forward_outside_come_first(findings: list[Finding]) -> None:
    """And each says what it matches, what it does and where to."""
    [rules] = [finding for finding in findings if finding.question.name == "inbox-rules"]
    forwards = [row[rules.answer.columns.index("forwards_to")] is not None for row in rules.answer.rows]
    first = drawn(rules, 200).splitlines()[3]

    assert forwards == sorted(forwards, reverse=True)
    assert forwards[0]
    assert not forwards[-1]
    assert first.startswith("    forwards to: archive")
    assert "rule: .  matches: invoice;payment;bank;Rechnung  does: delete" in first


@pytest.mark.slow
def test_tables_have_the_names_that_a_query_knows(findings: list[Finding]) -> None:
    """What is read there can be typed after FROM."""
    names = [str(row[0]) for row in findings[0].answer.rows]

    assert {"exchange", "sharepoint", "azureactivedirectory"} <= set(names)
    assert all(name.isalnum() for name in names)


def test_what_is_too_long_is_wrapped_and_never_cut() -> None:
    """A user with a name of any length can be read in full."""
    user = "b" * 200
    answer = QueryAnswer(("user", "failed"), ("VARCHAR", "BIGINT"), [(user, 3)], truncated=False)

    assert user in drawn(Finding(QUESTIONS[1], answer), 80).replace("\n", "")
