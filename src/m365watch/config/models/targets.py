"""Who is told of alerts, as a run knows it; `config.notifications` makes it of the file."""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.common.secret import Secret
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.outputs.syslog.spec import SyslogSettings
from m365watch.registry.output_specs import OutputSettings


@dataclass(frozen=True, slots=True)
class Wishes:
    """Which alerts a target wants to hear of, and how much at a time."""

    severity_min: str = "medium"
    rules: tuple[str, ...] = ()
    """Numbers, ids, titles or parts of titles, in lower case; empty: all."""
    tenants: frozenset[str] = frozenset()
    """In lower case; empty: all."""
    rate_per_minute: int | None = None
    """How many notifications a minute; None: as many as there are."""
    digest_after: int | None = None
    """Where more alerts wait than this and the minute's last turn has come, it is a digest of all of them."""
    update_interval_s: float | None = 3_600.0
    """How long after it was told an alert that has grown is told again; None: never."""
    tells_states: bool = True
    """Whether it is told what becomes of an alert: acknowledged, closed, opened again, withdrawn."""
    tells_closed: bool = False
    """Whether an alert that was closed before its turn came is told all the same."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Any receiver of JSON over HTTP."""

    name: str
    wishes: Wishes
    url: Secret
    signing_secret: Secret | None = None
    token: Secret | None = None
    network: NetworkSettings = UNSET_NETWORK


@dataclass(frozen=True, slots=True)
class SlackTarget:
    """A channel of Slack, by an incoming webhook."""

    name: str
    wishes: Wishes
    url: Secret
    network: NetworkSettings = UNSET_NETWORK


@dataclass(frozen=True, slots=True)
class TeamsTarget:
    """A chat or channel of Microsoft Teams, by a workflow's webhook."""

    name: str
    wishes: Wishes
    url: Secret
    network: NetworkSettings = UNSET_NETWORK


@dataclass(frozen=True, slots=True)
class PagerDutyTarget:
    """A service of PagerDuty, or whatever takes the same events."""

    name: str
    wishes: Wishes
    routing_key: Secret
    endpoint: str = "https://events.pagerduty.com/v2/enqueue"
    network: NetworkSettings = UNSET_NETWORK


@dataclass(frozen=True, slots=True)
class EmailTarget:
    """Mail over SMTP."""

    name: str
    wishes: Wishes
    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    security: str = "starttls"
    """starttls, tls, or none for a server on this machine."""
    username: str = ""
    password: Secret | None = None
    network: NetworkSettings = UNSET_NETWORK


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A receiver of syslog: RFC 5424 with structured data, or CEF."""

    name: str
    wishes: Wishes
    wire: SyslogSettings
    """Where to send to; its `severity` is that of no line: each has its alert's."""
    is_cef: bool = False


@dataclass(frozen=True, slots=True)
class OutputTarget:
    """An output of the configuration, which gets the alerts as records of a table of their own."""

    name: str
    wishes: Wishes
    output: OutputSettings


TargetSettings = (
    WebhookTarget | SlackTarget | TeamsTarget | PagerDutyTarget | EmailTarget | SyslogTarget | OutputTarget
)
