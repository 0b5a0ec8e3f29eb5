"""docs/notifications.md: its settings load, its receiver takes what we sign, its keys are what is sent."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from m365watch.cli.program import app
from m365watch.config.loader import parse_settings
from m365watch.notifications.channel_check import make_test
from m365watch.notifications.channels.webhook.spec import SIGNING_CHARACTERS_MIN
from m365watch.notifications.channels.webhook.webhook_signature import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    sign,
)
from m365watch.notifications.notification import Tiding
from m365watch.notifications.notification_document import document_of
from m365watch.registry.channel_specs import Channel

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
GUID = "11111111-2222-4333-8444-555555555555"
SECRET = "a secret that both sides know"


def targets_shown(folder: Path) -> tuple[Channel[Any], ...]:
    """Those of the page, with the file and the variables that it names."""
    [shown] = re.findall(r"<!-- settings -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    key = folder / "pagerduty.key"
    key.write_text("made-up-key")
    key.chmod(0o600)
    keys = {"tenant_id": GUID, "client_id": GUID, "client_secret": "made up"}
    document = {"inputs": {"office365": {"credentials": keys}}, **yaml.safe_load(shown)}
    environment = {"SLACK_WEBHOOK": "https://hooks.slack.com/services/x", "SOAR_SECRET": SECRET}
    settings = parse_settings(document, path=folder / "c.yaml", environment=environment)
    assert settings.warnings == ()
    return settings.detections.channels


def receiver_shown() -> Any:
    """The function that checks a post."""
    [shown] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(shown, names)
    return names["is_ours"]


def test_the_settings_shown_are_accepted(tmp_path: Path) -> None:
    """A channel, somebody who is woken, and a program."""
    chat, pager, program = targets_shown(tmp_path)

    assert [one.type for one in (chat, pager, program)] == ["slack", "pagerduty", "webhook"]
    assert pager.section.min_severity == "high"
    assert program.section.rules == ("b08", "h02", "impossible travel")


def test_the_receiver_shown_takes_what_is_ours_and_nothing_else() -> None:
    """Neither another secret, nor another body, nor a post of ten minutes ago."""
    is_ours, body, now = receiver_shown(), b'{"key": "x"}', int(time.time())

    def headers(secret: str = SECRET, at: int = now) -> dict[str, str]:
        timestamp = str(at)
        signature = sign(secret, timestamp=timestamp, body=body)
        return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}

    assert len(SECRET) >= SIGNING_CHARACTERS_MIN
    assert is_ours(headers(), body, SECRET)
    assert not is_ours(headers("another secret"), body, SECRET)
    assert not is_ours(headers(), body + b" ", SECRET)
    assert not is_ours(headers(at=now - 600), body, SECRET)
    assert not is_ours({**headers(), TIMESTAMP_HEADER: str(now + 1)}, body, SECRET)
    assert not is_ours({}, body, SECRET)


def test_every_key_shown_is_sent(tmp_path: Path) -> None:
    """In the example and in the table below it."""
    target = targets_shown(tmp_path)[2]
    sent = document_of(make_test(target, Tiding.NEW, tenant=GUID, now_ms=0), collector="c")
    [example] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(example)
    named = re.findall(r"^\| `(\w+)` \|", PAGE.partition("| key | meaning |")[2], re.MULTILINE)

    assert shown.keys() <= sent.keys()
    assert shown["alert"].keys() - {"…"} <= sent["alert"].keys()
    assert set(named) == {"key", "tiding", "thread", "kind", "alert", "test"}
    assert set(named) <= sent.keys()


def test_every_command_and_option_shown_is_one() -> None:
    """As the command line has it."""
    alerts: Any = get_command(app).get_command(None, "alerts")  # type: ignore[attr-defined]
    options = {option for one in alerts.commands["notify"].params for option in one.opts}

    assert {"ack", "close", "list", "notify"} <= alerts.commands.keys()
    assert set(re.findall(r"`(?:m365watch alerts notify )?(--[a-z]+)", PAGE)) <= options | {"--once"}
