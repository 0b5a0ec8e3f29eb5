"""A notification as an Adaptive Card, in the envelope that a workflow of Microsoft Teams expects.

Whatever comes from a record stands in a `TextRun`, in which no Markdown is looked for, unlike in texts and
facts.

Source: Microsoft Teams, "Create incoming webhooks with Workflows" and "Format cards in Teams" (Markdown in
TextBlock and Fact); what is larger than 28 kB is refused, and counts a fifth larger than it was posted (an
issue of Microsoft's documentation, number 11274).
"""

from __future__ import annotations

from typing import Any

from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import OVER, Notification
from m365watch.notifications.notification_text import (
    command_of,
    contain_of,
    facts_of,
    lead_of,
    list_lines,
    list_title,
    shortened,
    subject_of,
)

LEAD_CHARACTERS_MAX = 2_000
FACT_CHARACTERS_MAX = 300
LINE_CHARACTERS_MAX = 200
_FACTS_MAX = 12
_COLOURS = {
    Severity.CRITICAL: "attention",
    Severity.HIGH: "attention",
    Severity.MEDIUM: "warning",
    Severity.LOW: "accent",
    Severity.INFORMATIONAL: "default",
}


def teams_payload(notification: Notification, *, collector: str) -> dict[str, Any]:
    """What is posted; below 20,000 characters, whatever the alert holds."""
    is_over = notification.tiding in OVER
    colour = "good" if is_over else _COLOURS[notification.severity]
    head = _run(subject_of(notification), size="large", weight="bolder", color=colour)
    body = [_block(head)]
    if lead := lead_of(notification):
        body.append(_block(_run(shortened(lead, LEAD_CHARACTERS_MAX))))
    facts = facts_of(notification)
    shown = facts if len(facts) <= _FACTS_MAX else [*facts[: _FACTS_MAX - 1], facts[-1]]
    body += [
        _block(_run(f"{name}: ", isSubtle=True), _run(shortened(value, FACT_CHARACTERS_MAX)), spacing="none")
        for name, value in shown
    ]
    if lines := list_lines(notification):
        body.append(_block(_run(f"{list_title(notification)}:", weight="bolder")))
        body += [_block(_run(shortened(f"• {one}", LINE_CHARACTERS_MAX)), spacing="none") for one in lines]
    if contain := contain_of(notification):
        body.append(_block(_run(shortened(contain, FACT_CHARACTERS_MAX))))
    where = _run(f"{command_of(notification)} (on {collector})", isSubtle=True, fontType="monospace")
    body.append(_block(where, separator=True))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None}
    return {"type": "message", "attachments": [{**attachment, "content": card}]}


def _block(*runs: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs), **options}


def _run(text: str, **options: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **options}
