"""The forms of a notification: what each service asks for, and nothing hostile in any of them."""

from __future__ import annotations

import email
import json
import re
from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser
from typing import Any

import pytest
from promises import guarantee

from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.channels.email.mail_message import make_mail
from m365watch.notifications.channels.output.record_sender import record_of
from m365watch.notifications.channels.pagerduty.pagerduty_event import pagerduty_payload
from m365watch.notifications.channels.slack.slack_message import slack_payload
from m365watch.notifications.channels.syslog.syslog_line import syslog_line
from m365watch.notifications.channels.teams.teams_card import teams_payload
from m365watch.notifications.notification import (
    Notification,
    Standing,
    Tiding,
    make_digest,
    make_notification,
)
from m365watch.notifications.notification_document import document_of
from notify_scene import HOSTILE, START_MS, TENANT, make_alert, make_hostile, new_of

CLOSED = make_notification(
    Tiding.CLOSED,
    Standing(make_alert(), AlertState.CLOSED, "a drill", "bob", START_MS),
    thread="f" * 32,
    made_at_ms=START_MS,
)
HUGE = make_alert(
    title="T" * 300,
    explanation="E" * 50_000,
    entities=tuple((f"kind{number}", "V" * 300) for number in range(40)),
    check=tuple("C" * 900 for _ in range(30)),
)


def digest_of(count: int = 60) -> Notification:
    due = [(Tiding.NEW, Standing(make_alert(number))) for number in range(1, count + 1)]
    folded = [(Severity.MEDIUM, "Another title", 7, START_MS, START_MS)]
    return make_digest(due, folded, made_at_ms=START_MS)


def texts_in(value: Any) -> list[str]:
    """Every text anywhere in a document."""
    if isinstance(value, dict):
        return [text for child in value.values() for text in texts_in(child)]
    if isinstance(value, list):
        return [text for child in value for text in texts_in(child)]
    return [value] if isinstance(value, str) else []


def objects_in(value: Any) -> list[dict[str, Any]]:
    """Every object anywhere in a document."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    found = [one for child in children for one in objects_in(child)]
    return [value, *found] if isinstance(value, dict) else found


def line_of(notification: Notification, *, is_cef: bool = False) -> str:
    return syslog_line(
        notification, facility=10, host="host.example", collector="m365watch", is_cef=is_cef
    ).decode()


@pytest.mark.parametrize("tiding", [Tiding.NEW, Tiding.UPDATED, Tiding.REOPENED, Tiding.CLOSED])
def test_who_is_woken_is_told_how_it_is_contained(tiding: Tiding) -> None:
    """With the command that plans it; of what is over there is nothing to contain."""
    alert = make_alert()
    notification = make_notification(tiding, Standing(alert), thread=alert.id, made_at_ms=START_MS)
    line = "How to contain it: remove inbox rule (m365watch respond 00000000)"
    is_at_work = tiding is not Tiding.CLOSED

    assert (line in texts_in(slack_payload(notification, collector="c"))) is is_at_work
    assert (line in texts_in(teams_payload(notification, collector="c"))) is is_at_work
    text, page = parts_of(mail_of(notification))
    assert (line in text, line in page) == (is_at_work, is_at_work)


def test_what_is_opened_again_says_why_and_what_it_is() -> None:
    """Who closed it may be asleep; whoever is told now has never seen it."""
    reason = "2 more records have come since bob closed it: a drill"
    standing = Standing(make_alert(), AlertState.OPEN, reason, "m365watch", START_MS)
    notification = make_notification(Tiding.REOPENED, standing, thread="a" * 32, made_at_ms=START_MS)
    text, _ = parts_of(mail_of(notification))

    assert text.startswith("[HIGH] opened again: Mailbox forwards to an external address")
    assert f"opened again by m365watch: {reason}. ann@contoso.example made a rule" in text
    assert "* Ask ann whether she made the rule." in text


# Slack ------------------------------------------------------------------------------------------


def test_slack_gets_blocks_that_say_what_happened() -> None:
    """A header, the explanation, the facts, what to look at next, and the command for more."""
    payload = slack_payload(new_of(make_alert()), collector="soc-1")

    assert payload["text"] == "[HIGH] Mailbox forwards to an external address (ann@contoso.example)"
    assert [block["type"] for block in payload["blocks"]] == [
        "header",
        "section",
        "section",
        "section",
        "section",
        "context",
    ]
    texts = texts_in(payload)
    assert "user: ann@contoso.example" in texts
    assert any("Ask ann whether she made the rule." in text for text in texts)
    assert "`m365watch alerts show 00000000` on soc-1" in texts


@guarantee(41)
def test_nothing_of_a_record_is_markup_in_slack() -> None:
    """All of it stands in plain texts; the one line that cannot has no character that begins anything."""
    payload = slack_payload(new_of(make_hostile()), collector="c")
    marked = [one["text"] for one in objects_in(payload) if one.get("type") == "mrkdwn"]

    assert not any("evil" in text for text in marked)
    assert "<" not in payload["text"]
    assert any("<!channel>" in one["text"] for one in objects_in(payload) if one.get("type") == "plain_text")


@pytest.mark.parametrize("notification", [new_of(HUGE), digest_of(2_000)], ids=["alert", "digest"])
def test_slack_takes_what_is_as_large_as_can_be(notification: Notification) -> None:
    """Every bound of Block Kit holds, and the whole stays below what was seen to be refused (13,200)."""
    payload = slack_payload(notification, collector="c")
    for block in payload["blocks"]:
        if block["type"] == "header":
            assert 0 < len(block["text"]["text"]) <= 150
        if block["type"] == "section":
            assert all(len(text) <= 3_000 for text in texts_in(block))
            assert len(block.get("fields", [])) <= 10

    assert sum(map(len, texts_in(payload["blocks"]))) < 10_000


# Teams ------------------------------------------------------------------------------------------


def test_teams_gets_an_adaptive_card_in_a_workflows_envelope() -> None:
    """As the workflow "Post to a channel when a webhook request is received" reads it."""
    payload = teams_payload(new_of(make_alert()), collector="soc-1")
    [attachment] = payload["attachments"]
    card = attachment["content"]

    assert (payload["type"], attachment["contentType"]) == (
        "message",
        "application/vnd.microsoft.card.adaptive",
    )
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert "ann@contoso.example" in texts_in(card)


@guarantee(41)
def test_nothing_of_a_record_is_markdown_in_teams() -> None:
    """There are text runs alone: texts and facts would be read as Markdown."""
    payload = teams_payload(new_of(make_hostile()), collector="c")
    kinds = {one["type"] for one in objects_in(payload["attachments"][0]["content"]["body"])}

    assert kinds == {"RichTextBlock", "TextRun"}


@pytest.mark.parametrize("notification", [new_of(HUGE), digest_of(2_000)], ids=["alert", "digest"])
def test_teams_takes_what_is_as_large_as_can_be(notification: Notification) -> None:
    """28 kB are the limit, and 24 kB were seen to count for more than that."""
    assert len(json.dumps(teams_payload(notification, collector="c")).encode()) < 20_000


# PagerDuty --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiding", "action"),
    [
        (Tiding.NEW, "trigger"),
        (Tiding.UPDATED, "trigger"),
        (Tiding.ACKNOWLEDGED, "acknowledge"),
        (Tiding.CLOSED, "resolve"),
        (Tiding.WITHDRAWN, "resolve"),
        (Tiding.REOPENED, "trigger"),
    ],
)
def test_an_alert_is_one_incident_at_pagerduty(tiding: Tiding, action: str) -> None:
    """Every event about it has the same key, and what becomes of it becomes of the incident."""
    standing = Standing(make_alert(7))
    notification = make_notification(tiding, standing, thread="a" * 32, made_at_ms=START_MS)
    event = pagerduty_payload(notification, routing_key="key", collector="c")

    assert (event["event_action"], event["dedup_key"], event["routing_key"]) == (action, "a" * 32, "key")
    assert ("payload" in event) is (action == "trigger")


def test_pagerduty_is_told_how_bad_it_is() -> None:
    """In its four words, with a summary that it can read out."""
    named = {
        severity: pagerduty_payload(
            new_of(make_alert(severity=severity, explanation="x" * 3_000)), routing_key="k", collector="c"
        )["payload"]
        for severity in Severity
    }

    assert [one["severity"] for one in named.values()] == ["info", "info", "warning", "error", "critical"]
    assert all(len(one["summary"]) <= 1_024 for one in named.values())
    assert named[Severity.HIGH]["group"] == TENANT


# Mail -------------------------------------------------------------------------------------------


def mail_of(notification: Notification) -> EmailMessage:
    """The mail as a receiver reads it from the wire."""
    made = make_mail(
        notification,
        sender="alerts@contoso.example",
        recipients=("soc@contoso.example", "duty@contoso.example"),
        collector="soc-1",
    )
    read = email.message_from_bytes(made.as_bytes(), policy=SMTP)
    assert isinstance(read, EmailMessage)
    return read


def parts_of(mail: EmailMessage) -> tuple[str, str]:
    """The plain text and the HTML."""
    plain, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert html is not None
    return plain.get_content(), html.get_content()


def test_a_mail_says_it_all_in_its_subject_and_again_as_text_and_html() -> None:
    """With who it is from and for, one conversation for each alert, and a repeat that can be told."""
    mail = mail_of(new_of(make_alert()))
    text, html = parts_of(mail)

    assert mail["Subject"] == "[HIGH] Mailbox forwards to an external address (ann@contoso.example)"
    assert mail["To"] == "soc@contoso.example, duty@contoso.example"
    assert (mail["From"], mail["Auto-Submitted"]) == ("alerts@contoso.example", "auto-generated")
    assert mail["Message-ID"] == f"<000000000000.{new_of(make_alert()).key[-16:]}@contoso.example>"
    assert mail["References"] == f"<000000000000.{make_alert().id[-16:]}@contoso.example>"
    assert mail["X-M365watch-Key"] == new_of(make_alert()).key
    for part in (text, html):
        assert "ann@contoso.example made a rule" in part
        assert "203.0.113.9" in part


class _Tags(HTMLParser):
    """The tags of a page, and the attributes that they have."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep both."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@guarantee(41)
def test_nothing_of_a_record_is_a_header_or_a_tag_of_a_mail() -> None:
    """No Bcc can be smuggled in by a line break, no script, link or picture by a bracket."""
    hostile = make_alert(entities=(("user", HOSTILE),), explanation=HOSTILE, title=f"T{HOSTILE}")
    notification = make_notification(
        Tiding.CLOSED,
        Standing(hostile, AlertState.CLOSED, HOSTILE, HOSTILE, START_MS),
        thread=hostile.id,
        made_at_ms=START_MS,
    )
    for one in (new_of(hostile), notification):
        mail = mail_of(one)
        tags = _Tags()
        tags.feed(parts_of(mail)[1])

        assert "Bcc" not in mail
        assert tags.tags <= {
            *("html", "head", "meta", "body", "p", "table", "tr", "td", "ul", "li", "b", "code")
        }
        assert tags.attributes == {"charset", "style"}
        assert "<!channel>" in parts_of(mail)[0]


def test_a_mail_is_the_same_in_every_try() -> None:
    """Byte for byte, boundary and date included."""
    assert mail_of(new_of(make_alert())).as_bytes() == mail_of(new_of(make_alert())).as_bytes()


# Syslog -----------------------------------------------------------------------------------------


def test_a_line_has_the_alert_as_structured_data() -> None:
    """With facility and severity in its priority, and the words at its end."""
    line = line_of(new_of(make_alert()))

    assert line.startswith('<83>1 2026-11-17T09:00:00.000Z host.example m365watch - new [alert@32473 key="')
    assert f'id="{make_alert().id}"' in line
    assert 'user="ann@contoso.example"' in line
    assert line.endswith(
        "] [HIGH] Mailbox forwards to an external address (ann@contoso.example) "
        "ann@contoso.example made a rule that forwards all mail to eve@evil.example."
    )


def parameters_of(line: str) -> dict[str, str]:
    """The structured data, read as RFC 5424 says."""
    found = re.fullmatch(
        r'<\d+>1 \S+ \S+ \S+ - \S+ \[alert@32473((?: [^ ="\]]+="(?:\\.|[^"\\\]])*")*)\] .*', line
    )
    assert found is not None, line
    pairs = re.findall(r' ([^ ="\]]+)="((?:\\.|[^"\\\]])*)"', found[1])
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in pairs}


@guarantee(41)
def test_nothing_of_a_record_ends_a_value_or_a_line_of_syslog() -> None:
    """Quotation marks, brackets and backslashes are escaped; line breaks are blanks."""
    line = line_of(new_of(make_hostile()))

    assert "\n" not in line
    assert parameters_of(line)["user"] == HOSTILE.replace("\r", " ").replace("\n", " ")


def test_cef_has_its_header_and_keys() -> None:
    """As ArcSight and its kin read it."""
    line = line_of(new_of(make_alert()), is_cef=True)
    head, _, body = line.partition(" - CEF:0|")
    fields = body.split("|", 6)

    assert head == "<83>1 2026-11-17T09:00:00.000Z host.example m365watch - new"
    assert fields[:2] == ["m365watch", "m365watch"]
    assert fields[3:6] == ["B08", "Mailbox forwards to an external address", "8"]
    assert f"externalId={make_alert().id} " in fields[6]
    assert " suser=ann@contoso.example src=203.0.113.9 " in fields[6]


@guarantee(41)
def test_nothing_of_a_record_begins_another_key_of_cef() -> None:
    """Equals signs in values and pipes in the header are escaped."""
    hostile = make_alert(title="T|0|9|suser=eve", explanation="x src=10.0.0.1 act=none\nCEF:0|a")
    line = line_of(new_of(hostile), is_cef=True)
    fields = re.split(r"(?<!\\)\|", line, maxsplit=7)
    keys = re.findall(r"(?<!\\)\b(\w+)=", fields[7])

    assert "\n" not in line
    assert fields[5] == r"T\|0\|9\|suser=eve"
    assert keys.count("src") == 1
    assert keys.count("act") == 1


# Documents and records --------------------------------------------------------------------------


def test_the_document_has_all_that_the_alert_says_and_no_more() -> None:
    """Values as they are, whatever they are; no record's body is in an alert."""
    document = document_of(new_of(make_hostile()), collector="soc-1")

    assert (document["schema"], document["kind"], document["tiding"]) == (1, "alert", "new")
    assert document["alert"]["entities"][0] == {"kind": "user", "value": HOSTILE}
    assert document["alert"]["first_seen_at"] == "2026-11-17T08:59:00.000Z"
    assert json.loads(json.dumps(document)) == document


def test_a_digest_names_every_alert_and_counts_what_it_cannot() -> None:
    """By id; the worst whole, and severities and titles counted."""
    document = document_of(digest_of(), collector="c")

    assert document["kind"] == "digest"
    assert document["digest"]["count"] == 67
    assert len(document["digest"]["alerts"]) == 60
    assert document["digest"]["severities"] == {"high": 60, "medium": 7}
    assert document["digest"]["rules"][1] == {"title": "Another title", "count": 7}
    assert document["summary"] == "[HIGH] 67 alerts: 60 high, 7 medium"


def test_what_became_of_an_alert_is_said_first() -> None:
    """Who closed it, and why."""
    assert "closed by bob: a drill" in texts_in(slack_payload(CLOSED, collector="c"))
    assert mail_of(CLOSED)["Subject"].startswith("[HIGH] closed: Mailbox forwards")


def test_an_outputs_record_is_one_line_with_the_fields_of_every_record() -> None:
    """So that a table of alerts reads like the others."""
    record = record_of(new_of(make_hostile()), collector="c")
    read = json.loads(record)

    assert b"\n" not in record
    assert read["Id"] == read["key"]
    assert read["Operation"] == "AlertNew"
    assert (read["OrganizationId"], read["Workload"]) == (TENANT, "M365watch")
    assert read["CreationTime"] == "2026-11-17T09:00:00.000Z"


def test_a_test_says_that_it_is_one_in_every_form() -> None:
    """Nobody who is woken by it looks for an intruder."""
    notification = make_notification(
        Tiding.NEW, Standing(make_alert()), thread="a", made_at_ms=START_MS, is_test=True
    )

    assert document_of(notification, collector="c")["test"] is True
    for text in (
        slack_payload(notification, collector="c")["text"],
        str(mail_of(notification)["Subject"]),
        line_of(notification),
        pagerduty_payload(notification, routing_key="k", collector="c")["payload"]["summary"],
        "".join(texts_in(teams_payload(notification, collector="c"))),
    ):
        assert "TEST: " in text
