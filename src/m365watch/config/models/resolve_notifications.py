"""Targets of notifications: what of them does not go together, and what a run is told of them."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Mapping, Sequence

from m365watch.common.secret import Secret, secret_of
from m365watch.config.document import Document, section_at, texts_at
from m365watch.config.models.notifications import (
    EmailNotification,
    NotificationKeys,
    OutputNotification,
    PagerDutyNotification,
    SlackNotification,
    SyslogNotification,
    TeamsNotification,
    WebhookNotification,
    parse_webhook_url,
)
from m365watch.config.models.targets import (
    EmailTarget,
    OutputTarget,
    PagerDutyTarget,
    SlackTarget,
    SyslogTarget,
    TargetSettings,
    TeamsTarget,
    WebhookTarget,
    Wishes,
)
from m365watch.config.secrets import NOTIFICATIONS, UNREAD, is_reference
from m365watch.config.validation_report import KeyPath, Report
from m365watch.http.settings import NetworkSettings, TlsSettings
from m365watch.outputs.network.settings import WireSettings, own_host
from m365watch.outputs.syslog.spec import SyslogSettings
from m365watch.registry.output_specs import OutputSettings

SIGNING_CHARACTERS_MIN = 16
"""A shorter secret could be guessed from one signed post."""
WAITING_MAX = 5_000
"""Alerts that wait for one target; beyond it the least severe are only counted, in a digest."""

_RATES: dict[type[NotificationKeys], int] = {
    WebhookNotification: 300,
    SlackNotification: 20,
    TeamsNotification: 10,
    PagerDutyNotification: 60,
    EmailNotification: 6,
}
"""Notifications a minute, well within what each service takes.

Source: Slack, "Rate limits" (one post a second to a webhook); Microsoft Teams, "Rate limiting for connectors"
(four a second); PagerDuty, Events API v2.
"""
_DIGESTS: dict[type[NotificationKeys], int] = {
    SlackNotification: 10,
    TeamsNotification: 10,
    EmailNotification: 10,
    PagerDutyNotification: 30,
}
_MACHINES = (WebhookNotification, SyslogNotification, OutputNotification)
_MAIL_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_TLS_KEYS = ("chain", "cert", "key", "key_password", "key_password_file")
_DEFAULT_OUTPUT = "lake"


def check_notifications(document: Document, *, report: Report) -> None:
    """Refuse what does not go together in a target, and URLs that are none; no URL is shown."""
    outputs = section_at(document, "outputs") or {_DEFAULT_OUTPUT: {"type": "lake"}}
    tenants = {
        one.lower()
        for name in section_at(document, "inputs")
        for one in texts_at(section_at(document, "inputs", name, "credentials"), "tenant_id")
    }
    for name in section_at(document, *NOTIFICATIONS):
        path, section = (*NOTIFICATIONS, name), section_at(document, *NOTIFICATIONS, name)
        _check_url(section, path, report)
        _check_signing(section, path, report)
        _check_tenants(section, path, tenants, report)
        match section.get("type"):
            case "email":
                _check_mail(section, path, report)
            case "syslog":
                _check_tls(section, path, report)
            case "output":
                _check_output(section, path, outputs, report)


def _is_read(section: Document, key: str, path: KeyPath, report: Report) -> bool:
    """Whether the secret under `key` is there to be looked at."""
    value = section.get(key)
    if not isinstance(value, str) or not value or value == UNREAD or is_reference(value) or "${" in value:
        return False
    return not report.mistakes.keys() & {(*path, key), (*path, f"{key}_file")}


def _check_url(section: Document, path: KeyPath, report: Report) -> None:
    if _is_read(section, "webhook_url", path, report):
        try:
            parse_webhook_url(str(section["webhook_url"]))
        except ValueError as error:
            what, _, why = str(error).partition("; ")
            report.refuse((*path, "webhook_url"), f"{what}; {why or 'give the URL as the receiver shows it'}")


def _check_signing(section: Document, path: KeyPath, report: Report) -> None:
    if section.get("type") != "webhook":
        return
    if section.get("signing_secret") is None:
        report.warn(path, "is not signed; give signing_secret, so that the receiver can tell who posts")
    elif (
        _is_read(section, "signing_secret", path, report)
        and len(str(section["signing_secret"])) < SIGNING_CHARACTERS_MIN
    ):
        why = f"has fewer than {SIGNING_CHARACTERS_MIN} characters; openssl rand -hex 32 makes a good one"
        report.refuse((*path, "signing_secret"), why)


def _check_tenants(section: Document, path: KeyPath, tenants: set[str], report: Report) -> None:
    for place, tenant in enumerate(texts_at(section, "tenants")):
        if tenants and tenant.lower() not in tenants:
            key = (*path, "tenants", place) if isinstance(section["tenants"], list) else (*path, "tenants")
            report.refuse_value(key, tenant, "is no tenant of any input; give one that is collected")


def _check_mail(section: Document, path: KeyPath, report: Report) -> None:
    host = section.get("host")
    if section.get("security") == "none" and isinstance(host, str) and not _is_loopback(host):
        why = "would send alerts unencrypted; it is for a server on this machine; give starttls or tls"
        report.refuse((*path, "security"), why)
    for one, other in (("username", "password"), ("password", "username")):
        if section.get(one) is not None and section.get(other) is None:
            report.refuse((*path, other), f"is missing; {one} needs it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_tls(section: Document, path: KeyPath, report: Report) -> None:
    if section.get("transport") != "tls":
        for key in _TLS_KEYS:
            if section.get(key) is not None:
                why = "is for transport tls only; set the transport, or remove the key"
                report.refuse((*path, key), why)
        return
    for one, other in (("cert", "key"), ("key", "cert")):
        if section.get(one) is not None and section.get(other) is None:
            report.refuse((*path, other), f"is missing; {one} needs it")


def _check_output(section: Document, path: KeyPath, outputs: Document, report: Report) -> None:
    wanted = section.get("output")
    if not isinstance(wanted, str):
        return
    if wanted not in outputs:
        near = difflib.get_close_matches(wanted, outputs, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(outputs)}"
        report.refuse_value((*path, "output"), wanted, f"is no output that is switched on; {hint}")
    elif section_at(outputs, wanted).get("type") == "lake":
        why = "is a lake, which has the alerts in a table anyway; name another output, or remove the target"
        report.refuse_value((*path, "output"), wanted, why)


def resolve_notifications(
    sections: Mapping[str, NotificationKeys], *, outputs: Sequence[OutputSettings], network: NetworkSettings
) -> tuple[TargetSettings, ...]:
    """Who is told, and how; `outputs` are those of the whole configuration."""
    by_name = {output.name: output for output in outputs}
    return tuple(_resolve(name, section, by_name, network) for name, section in sections.items())


def _resolve(
    name: str, section: NotificationKeys, outputs: Mapping[str, OutputSettings], network: NetworkSettings
) -> TargetSettings:
    wishes = wishes_of(section)
    match section:
        case WebhookNotification():
            return WebhookTarget(
                name,
                wishes,
                Secret(section.webhook_url.get_secret_value()),
                signing_secret=secret_of(section.signing_secret),
                token=secret_of(section.token),
                network=network,
            )
        case SlackNotification():
            return SlackTarget(name, wishes, Secret(section.webhook_url.get_secret_value()), network)
        case TeamsNotification():
            return TeamsTarget(name, wishes, Secret(section.webhook_url.get_secret_value()), network)
        case PagerDutyNotification():
            key = Secret(section.routing_key.get_secret_value())
            return PagerDutyTarget(name, wishes, key, section.endpoint, network)
        case EmailNotification():
            return _resolve_mail(name, section, wishes, network)
        case SyslogNotification():
            return SyslogTarget(name, wishes, _resolve_wire(name, section), section.format == "cef")
        case OutputNotification():
            return OutputTarget(name, wishes, outputs[section.output])
        case _:
            raise TypeError(type(section).__name__)


def wishes_of(section: NotificationKeys) -> Wishes:
    """What the section says, and its type where it says nothing."""
    kind, is_machine = type(section), isinstance(section, _MACHINES)
    return Wishes(
        severity_min=section.min_severity,
        rules=section.rules,
        tenants=frozenset(section.tenants),
        rate_per_minute=section.rate_limit_per_minute or _RATES.get(kind),
        digest_after=section.digest_after or _DIGESTS.get(kind, WAITING_MAX),
        update_interval_s=float(section.update_interval_secs) or None,
        tells_states=section.resolved,
        tells_closed=is_machine,
    )


def _resolve_mail(
    name: str, section: EmailNotification, wishes: Wishes, network: NetworkSettings
) -> EmailTarget:
    return EmailTarget(
        name,
        wishes,
        host=section.host,
        port=section.port or _MAIL_PORTS[section.security],
        sender=section.sender,
        recipients=tuple(dict.fromkeys(section.recipients)),
        security=section.security,
        username=section.username or "",
        password=secret_of(section.password),
        network=network,
    )


def _resolve_wire(name: str, section: SyslogNotification) -> SyslogSettings:
    tls = TlsSettings(section.chain, section.cert, section.key, secret_of(section.key_password))
    return SyslogSettings(
        name=name,
        address=section.address,
        port=section.port,
        transport=section.transport,
        framing=section.framing,
        tls=tls if section.transport == "tls" else None,
        host=section.hostname or own_host(),
        facility=section.facility,
        wire=WireSettings(),
    )
