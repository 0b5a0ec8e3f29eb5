"""A notification as a post to Slack.

Whatever comes from a record stands in texts of type `plain_text`, in which Slack looks for no links, mentions
or formats; only the line for lists and push notifications cannot be one, and is escaped.

Source: Slack, "Text object", "Section block" (3,000 characters a text, 10 fields of 2,000), "Header block"
(150 characters), "Formatting text" (what is escaped).
"""

from __future__ import annotations

from typing import Any

from m365watch.notifications.notification import Notification
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

HEADER_CHARACTERS_MAX = 150
LEAD_CHARACTERS_MAX = 2_500
FACT_CHARACTERS_MAX = 300
LINES_CHARACTERS_MAX = 2_900
FIELDS_MAX = 10


def slack_payload(notification: Notification, *, collector: str) -> dict[str, Any]:
    """What is posted; below 10,000 characters, whatever the alert holds."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(shortened(subject_of(notification), HEADER_CHARACTERS_MAX))}
    ]
    if lead := lead_of(notification):
        blocks.append({"type": "section", "text": _plain(shortened(lead, LEAD_CHARACTERS_MAX))})
    fields = [
        _plain(shortened(f"{name}: {value}", FACT_CHARACTERS_MAX)) for name, value in facts_of(notification)
    ]
    if fields:
        blocks.append({"type": "section", "fields": _bounded(fields)})
    if lines := list_lines(notification):
        text = "\n".join([f"{list_title(notification)}:", *(f"• {line}" for line in lines)])
        blocks.append({"type": "section", "text": _plain(shortened(text, LINES_CHARACTERS_MAX))})
    if contain := contain_of(notification):
        blocks.append({"type": "section", "text": _plain(shortened(contain, FACT_CHARACTERS_MAX))})
    where = f"`{command_of(notification)}` on {escape_slack(collector)}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": where, "verbatim": True}]})
    return {"text": escape_slack(subject_of(notification)), "blocks": blocks}


def escape_slack(text: str) -> str:
    """The text with nothing in it that Slack takes for a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _bounded(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first ones, and always the last, which names the alert."""
    return fields if len(fields) <= FIELDS_MAX else [*fields[: FIELDS_MAX - 1], fields[-1]]


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text or " ", "emoji": False}
