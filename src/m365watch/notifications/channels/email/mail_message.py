"""A notification as a mail: a subject that says it all, the same as text and as HTML, every value escaped."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

from m365watch.common.text import plain
from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import OVER, Notification
from m365watch.notifications.notification_text import (
    command_of,
    contain_of,
    facts_of,
    lead_of,
    list_lines,
    list_title,
    subject_of,
)

_COLOURS = {
    Severity.CRITICAL: "#a4262c",
    Severity.HIGH: "#c50f1f",
    Severity.MEDIUM: "#b45309",
    Severity.LOW: "#0f6cbd",
    Severity.INFORMATIONAL: "#616161",
}
_OVER_COLOUR = "#107c10"


def make_mail(
    notification: Notification, *, sender: str, recipients: tuple[str, ...], collector: str
) -> EmailMessage:
    """The mail; mails about one alert belong to one conversation, and a repeat has the same Message-ID."""
    domain = sender.rpartition("@")[2]
    subject = plain(subject_of(notification))
    # A header that is folded before its first word is read wrongly by some; what is encoded has to be short.
    mail = EmailMessage(policy=SMTP.clone(max_line_length=998) if subject.isascii() else SMTP)
    mail["Subject"] = subject
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = format_datetime(instant_of_ms(notification.made_at_ms))
    mail["Message-ID"] = f"<{_short(notification.key)}@{domain}>"
    mail["References"] = f"<{_short(notification.thread)}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-M365watch-Key"] = notification.key
    if notification.severity is Severity.CRITICAL and notification.tiding not in OVER:
        mail["Importance"] = "high"
    mail.set_content(text_of(notification, collector=collector))
    mail.add_alternative(html_of(notification, collector=collector), subtype="html")
    mail.set_boundary(f"m365watch-{notification.key}")
    return mail


def text_of(notification: Notification, *, collector: str) -> str:
    """The plain text."""
    blocks = [plain(subject_of(notification)), plain(lead_of(notification))]
    facts = facts_of(notification)
    width = max((len(name) for name, _ in facts), default=0)
    blocks.append("\n".join(f"{name:<{width}}  {plain(value)}" for name, value in facts))
    if lines := list_lines(notification):
        blocks.append("\n".join([f"{list_title(notification)}:", *(f"* {plain(one)}" for one in lines)]))
    blocks.append(plain(contain_of(notification)))
    blocks.append(f"On {collector}: {command_of(notification)}")
    return "\n\n".join(block for block in blocks if block) + "\n"


def html_of(notification: Notification, *, collector: str) -> str:
    """The HTML: nothing is loaded, and no value is a link."""
    colour = _OVER_COLOUR if notification.tiding in OVER else _COLOURS[notification.severity]
    cell = 'style="padding:2px 12px 2px 0;vertical-align:top;color:#616161"'
    rows = "".join(
        f"<tr><td {cell}>{_safe(name)}</td><td>{_safe(value)}</td></tr>"
        for name, value in facts_of(notification)
    )
    lines = "".join(f"<li>{_safe(one)}</li>" for one in list_lines(notification))
    listed = f"<p><b>{_safe(list_title(notification))}</b></p><ul>{lines}</ul>" if lines else ""
    contain = contain_of(notification)
    listed += f"<p>{_safe(contain)}</p>" if contain else ""
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8"></head>'
        '<body style="font-family:sans-serif;font-size:14px">'
        f'<p style="font-size:18px;font-weight:bold;color:{colour}">{_safe(subject_of(notification))}</p>'
        f"<p>{_safe(lead_of(notification))}</p><table>{rows}</table>{listed}"
        f'<p style="color:#616161">On {_safe(collector)}: <code>{_safe(command_of(notification))}</code></p>'
        "</body></html>\n"
    )


def _short(key: str) -> str:
    """As much of a key as tells it from others, and leaves a header in one line."""
    return f"{key[:12]}.{key[-16:]}"


def _safe(text: str) -> str:
    return escape(plain(text), quote=True)
