"""Verdicts and changes, as their records tell them."""

from __future__ import annotations

from typing import Any

import pytest

from m365watch.board.pages import threats

ROW: tuple[Any, ...] = (0, "Anything", "ann@x", "", "ok", "", "{}", "Exchange")
CELLS = [
    threats._mail_row,
    threats._cleanup_row,
    threats._dlp_row,
    threats._alert_row,
    threats._compliance_row,
    threats._teams_row,
    threats._flow_row,
    threats._copilot_row,
]


@pytest.mark.parametrize("cells", CELLS, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"PolicyDetails": 7, "CopilotEventData": [], "Members": {"UPN": 1}, "Data": "[", "Recipients": None},
        {
            "PolicyDetails": [],
            "Members": [None, {"UPN": ["x"]}],
            "SystemOverrides": [[]],
            "Severity": {"a": 1},
        },
    ],
)
def test_a_record_of_any_shape_is_a_row(cells: threats.Cells, record: dict[str, Any]) -> None:
    """Whoever writes a strange record hides no other behind it."""
    row = cells(ROW, record)

    assert all(cell.text for cell in row)


def test_bad_mail_that_was_delivered_stands_out() -> None:
    """Its verdict by its weight, and the inbox."""
    told = {"Verdict": "Phish", "LatestDeliveryLocation": "Inbox", "Recipients": ["Bob@x"]}
    row = threats._mail_row(ROW, told)

    assert (row[1].tone, row[6].tone, row[4].narrows) == ("high", "high", ("user", "bob@x"))


def test_an_alert_says_whom_it_is_about() -> None:
    """By its entity, or by the text inside its text."""
    assert threats._alert_row(ROW, {"AlertEntityId": "bob@x"})[3].text == "bob@x"
    assert threats._alert_row(ROW, {"Data": '{"f3u":"eve@x"}'})[3].text == "eve@x"


def test_a_chat_with_another_organisation_stands_out() -> None:
    """By what its record says of its participants."""
    told = {"Members": [{"UPN": "bob@y"}], "ParticipantInfo": {"HasForeignTenantUsers": True}}

    assert threats._teams_row(ROW, told)[4].tone == "medium"


def test_what_takes_along_or_blinds_stands_out() -> None:
    """Exports of searches, and changes of the audit."""
    graves = ("New-ComplianceSearchAction", "Set-AdminAuditLogConfig")

    assert [threats._compliance_row((0, one, *ROW[2:]), {})[1].tone for one in graves] == ["high", "high"]
    assert threats._compliance_row((0, "New-DlpComplianceRule", *ROW[2:]), {})[1].tone == ""


@pytest.mark.parametrize(
    ("action", "words", "tone"),
    [
        ("2", "blocked", ""),
        ("4", "went on past the block", "high"),
        ("BlockPageOverride", "went on past the block", "high"),
        ("5", "went on before it was examined", "high"),
        ("9", "9", ""),
    ],
)
def test_a_click_says_whether_the_link_was_reached(action: str, words: str, tone: str) -> None:
    """In words, whether the record has the number or the name of what was done."""
    cell = threats._cleanup_row(ROW, {"UrlClickAction": action})[3]

    assert (cell.text, cell.tone) == (words, tone)
