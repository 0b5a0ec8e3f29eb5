"""Alerts as somebody without sight of contents reads them: what the rules say, and nothing of records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from asking import ask, board_of, document_of, view_of
from m365watch.board.access.redaction import NOT_LOADED
from m365watch.board.pages import alert as alert_page
from m365watch.board.query.data_sources import Sources
from m365watch.board.widgets.widget_types import Case
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, make_risk_rule
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from m365watch_testing.clock import FakeClock
from rules import TENANT, load_good, record, rule_text
from test_withheld import BLIND, OnlyGate

NOW = datetime(2026, 11, 4, tzinfo=UTC)
"""Two days after the first record."""
SIGNS = [record(number * 3_600, Operation=f"Op{number}") for number in range(10)]


def judged(directory: Path, rules: Sequence[Rule], records: Sequence[bytes]) -> list[KeptAlert]:
    """What the engine finds in the records, kept in the folder as a collector keeps it."""
    with closing(DetectionState(directory / FILE_NAME, survives_power_cuts=False)) as state:
        engine = Engine(rules, state, knowledge=NOTHING_KNOWN)
        engine.take([Portion(TENANT, NOW, records, headers_of(records))], number=1, now=NOW)
        engine.look(now=NOW + timedelta(hours=3))
        return [one for one in state.alerts.list() if one.shown]


def sources_in(directory: Path, sources: Sources) -> Sources:
    """Where the pages come from, with the alerts of that folder and its rules."""
    rules = (directory / "rules",)
    detections = sources.settings.detections.model_copy(update={"rules_directories": rules, "packs": ()})
    settings = replace(sources.settings, state_directory=directory, detections=detections)
    return Sources(settings, None, FakeClock(NOW + timedelta(hours=4)))


def weak_rules(directory: Path) -> list[Rule]:
    """A rule for each operation, none of which is anything by itself."""
    texts = [
        rule_text(
            {"s": {"Operation": f"Op{number}"}, "condition": "s"},
            title=f"Rule {number}",
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            m365watch={"risk": 30, "quiet": "1h", "entity": {"user": "UserId"}},
        )
        for number in range(len(SIGNS))
    ]
    return list(load_good(directory, *texts).rules)


def test_what_several_signs_add_up_to_is_called_what_it_is(sources: Sources, tmp_path: Path) -> None:
    """The rule about risk is in no file, and all of its texts but the explanation are its own."""
    found = judged(tmp_path, [*weak_rules(tmp_path), make_risk_rule()], SIGNS)
    [risk] = [one.alert for one in found if one.alert.rule_id == RISK_RULE_ID]
    there, rule = sources_in(tmp_path, sources), make_risk_rule()
    board = board_of(there, gate=OnlyGate(BLIND))

    queue, page, check, listed, shown = (
        asyncio.run(ask(board, url))
        for url in (
            "/panel/alerts/queue?range=30d",
            f"/panel/alert/case?alert={risk.id}",
            f"/panel/alert/check?alert={risk.id}",
            "/api/v1/alerts?range=30d",
            f"/api/v1/alerts/{risk.id}",
        )
    )
    case = asyncio.run(alert_page.case(view_of(f"alert={risk.id}", BLIND, now=there.clock.now()), there))

    assert [one.status for one in (queue, page, check, listed, shown)] == [200] * 5
    assert rule.title in queue.text
    assert rule.title in page.text
    assert rule.title in [one["title"] for one in document_of(listed)["alerts"]]
    assert document_of(shown)["alert"]["title"] == rule.title
    assert all(one in check.text for one in rule.extension.check)
    assert isinstance(case, Case)
    assert f"Looks for: {rule.description}" in case.notes
    assert all(NOT_LOADED not in one.text for one in (queue, page, listed, shown))


def test_of_a_rule_that_is_not_loaded_that_is_said(sources: Sources, tmp_path: Path) -> None:
    """Its file may be there with a mistake in it, or its pack not be configured: nothing of it is told."""
    judged(tmp_path, weak_rules(tmp_path), SIGNS)
    (tmp_path / "rules" / "mine.yml").write_text("title: [", encoding="utf-8")
    there = sources_in(tmp_path, sources)

    found = asyncio.run(there.list_alerts(view_of("range=30d", BLIND, now=there.clock.now())))

    assert found
    assert {one.alert.title for one in found} == {"An alert whose rule is not loaded"}
    assert {one.alert.explanation for one in found} == {"What its records say is withheld from you."}


FILE = "Contract spring 16.pptx"


def own_rule(directory: Path, **told: str) -> list[Rule]:
    """Somebody's own rule, which may have a headline."""
    text = rule_text(
        {"s": {"Operation": "FileAccessed"}, "condition": "s"},
        title="A file was opened",
        m365watch={"entity": {"user": "UserId"}, **told},
    )
    return list(load_good(directory, text).rules)


@guarantee(43)
@pytest.mark.parametrize(
    ("now", "title"),
    [
        ({}, "A file was opened"),
        ({"headline": "A file was read"}, "A file was read"),
        ({"headline": "{UserId} opened"}, "ann@contoso.example opened"),
        ({"headline": "{user} by {ClientIP} opened"}, "A file was opened"),
        ({"headline": "{ClientIP} opened"}, "A file was opened"),
        ({"headline": "{SourceFileName|UserId} opened"}, "A file was opened"),
    ],
)
def test_a_title_of_before_the_headline_was_mended_is_withheld(
    sources: Sources, tmp_path: Path, now: dict[str, str], title: str
) -> None:
    """Alerts keep the title that they were made with; what the headline says now tells nothing of that."""
    opened = record(Operation="FileAccessed", SourceFileName=FILE, ClientIP="192.0.2.7")
    [kept] = judged(tmp_path, own_rule(tmp_path, headline="{SourceFileName} opened"), [opened])
    assert kept.alert.title == f"{FILE} opened"
    own_rule(tmp_path, **now)
    there = sources_in(tmp_path, sources)

    found = asyncio.run(there.list_alerts(view_of("range=30d", BLIND, now=there.clock.now())))

    assert found
    assert [one.alert.title for one in found] == [title]
