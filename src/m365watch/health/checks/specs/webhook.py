"""Whether a run could listen for Microsoft's notifications."""

from __future__ import annotations

import socket

from m365watch.common.errors import NeedsOperator
from m365watch.config.models.settings import Settings
from m365watch.config.models.webhook import WebhookSection
from m365watch.health.checks.check_specs import CheckSpec
from m365watch.ledger.lock import LOCK_FILE, holder_of
from m365watch.registry.checks import Check, Checked, bad, good, odd

_PORT_FIX = "set globals.webhook.listen to a free port of this machine"


def check_webhook(settings: Settings) -> list[Checked]:
    """Whether a run could listen; nothing where it is not to. Waits for the disk and the system alone.

    Whether Microsoft reaches the address shows only once a run starts a subscription with it.
    """
    webhook = settings.webhook
    if webhook is None:
        return []
    from m365watch.sources.management_api.webhook.webhook_server import load_context

    place = f"{webhook.host}:{webhook.port}"
    leads = f"{webhook.address} has to lead there"
    try:
        load_context(webhook)
    except NeedsOperator as error:
        return [bad(Check.WEBHOOK, f"{error.where}: {error.what}", fix=error.fix)]
    reason = _refusal_of(webhook)
    if reason is None:
        return [good(Check.WEBHOOK, f"{place} can be listened at; {leads}")]
    holder = holder_of(settings.state_directory / LOCK_FILE)
    if holder is not None:
        return [odd(Check.WEBHOOK, f"{place} is in use, it seems by the collector that is running; {leads}")]
    return [bad(Check.WEBHOOK, f"{place} cannot be listened at: {reason}", fix=_PORT_FIX)]


def _refusal_of(webhook: WebhookSection) -> str | None:
    """Why the port cannot be had; None where it can."""
    try:
        found = socket.getaddrinfo(webhook.host, webhook.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind(address)
                one.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


SPEC = CheckSpec(
    type="webhook",
    rank=60,
    text="With [webhook mode](webhook.md): whether its certificate can be used and its port be listened at.",
    look=lambda it: check_webhook(it.settings),
)
