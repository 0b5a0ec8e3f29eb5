"""The keys of `detections.notifications`: who is told of alerts, each target with a type of its own."""

# Annotations stay objects here (`kinds.Section` says why).

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag

from m365watch.config.models.base import (
    ON_OFF,
    BaseUrl,
    FilePath,
    Guid,
    Name,
    SecretText,
    Section,
    Switch,
    Whole,
    by_type,
    listed,
)
from m365watch.config.models.clouds import URL_CHARACTERS, parse_base_url
from m365watch.config.models.wire_values import FACILITIES, parse_address, parse_facility, parse_line_host

_SECRET_FILE = "the path of a file that only its owner may read"
_URL = "the webhook's https URL in quotes, or ${NAME}, or the key webhook_url_file"
_PEM = "the path of a PEM file"
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_RULE_CHARACTERS_MAX = 200


def parse_mail_address(text: str) -> str:
    """The address unchanged; a name beside it is refused."""
    if len(text) <= 254 and _MAIL_ADDRESS.fullmatch(text):
        return text
    raise ValueError("is no mail address such as soc@contoso.com; give the bare address")


def parse_rule_words(text: str) -> str:
    """The text in lower case, without what is around it."""
    plain = text.strip().lower()
    if not plain or len(plain) > _RULE_CHARACTERS_MAX:
        raise ValueError("is no rule's number, id, or part of its title; `m365watch rules list` shows them")
    return plain


MailAddress = Annotated[str, AfterValidator(parse_mail_address)]
RuleWords = Annotated[str, AfterValidator(parse_rule_words)]


class NotificationKeys(Section):
    """What every target of notifications takes, whatever its type.

    `docs/notifications.md` says what arrives at each type of target, and what is promised.
    """

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the target is told anything; one that is switched off is not read further."""

    min_severity: Literal["informational", "low", "medium", "high", "critical"] = Field(
        default="medium", title="informational, low, medium, high or critical"
    )
    """Alerts of this severity and worse ones are told."""

    rules: Annotated[tuple[RuleWords, ...], BeforeValidator(listed), Field(max_length=1_000)] = Field(
        default=(), title="a rule's number, id, or a part of its title, or a list of them"
    )
    """Only alerts of these rules; left out, of all."""

    tenants: Annotated[tuple[Guid, ...], BeforeValidator(listed), Field(max_length=10_000)] = Field(
        default=(), title="a tenant's GUID, or a list of GUIDs"
    )
    """Only alerts of these tenants; left out, of all."""

    rate_limit_per_minute: Whole | None = Field(
        default=None, ge=1, le=6_000, title="a whole number, 1 to 6,000"
    )
    """How many notifications a minute; the worst come first, the others wait. Critical ones may be
    as many again. Left out: slack 20, teams 10,
    email 6, pagerduty 60, webhook 300, others as many as there are."""

    digest_after: Whole | None = Field(default=None, ge=1, le=5_000, title="a whole number, 1 to 5,000")
    """Where more alerts than this wait, the last notification of a minute is a digest that names all of them.
    Left out: slack, teams and email 10, pagerduty 30, others 5,000."""

    update_interval_secs: Whole = Field(
        default=3_600, ge=0, le=604_800, title="a whole number of seconds, 0 to 604,800"
    )
    """How long after it was told an alert that has grown is told again; 0 for never. One that became more
    severe is told at once."""

    resolved: Switch = Field(default=True, title=ON_OFF)
    """Whether it is told what becomes of an alert: acknowledged, closed, opened again, withdrawn."""


class WebhookNotification(NotificationKeys):
    """JSON to any receiver, one POST for each alert, signed with a secret that both sides know."""

    type: Literal["webhook"] = Field(title="webhook")
    """The kind of target."""

    webhook_url: SecretText = Field(title=_URL)
    """Where to post to."""

    webhook_url_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the URL, in place of `webhook_url`."""

    signing_secret: SecretText | None = Field(
        default=None, title="a long random text, or ${NAME}, or the key signing_secret_file"
    )
    """What each post is signed with (HMAC-SHA256), at least 16 characters; `openssl rand -hex 32` makes one.
    Without it nothing is signed, and the receiver cannot tell our posts from others."""

    signing_secret_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds it, in place of `signing_secret`."""

    token: SecretText | None = Field(
        default=None, title="the token in quotes, or ${NAME}, or the key token_file"
    )
    """Sent as `Authorization: Bearer` where the receiver asks for it."""

    token_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the token, in place of `token`."""


class SlackNotification(NotificationKeys):
    """A channel of Slack, by one of its incoming webhooks."""

    type: Literal["slack"] = Field(title="slack")
    """The kind of target."""

    webhook_url: SecretText = Field(title=_URL)
    """The webhook's URL, https://hooks.slack.com/services/... : whoever has it can post to the channel."""

    webhook_url_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the URL, in place of `webhook_url`."""


class TeamsNotification(NotificationKeys):
    """A chat or channel of Microsoft Teams, by a workflow that posts what its webhook receives."""

    type: Literal["teams"] = Field(title="teams")
    """The kind of target."""

    webhook_url: SecretText = Field(title=_URL)
    """The URL that the workflow shows once it is saved: whoever has it can post."""

    webhook_url_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the URL, in place of `webhook_url`."""


class PagerDutyNotification(NotificationKeys):
    """A service of PagerDuty, or any that takes its events (Events API v2)."""

    type: Literal["pagerduty"] = Field(title="pagerduty")
    """The kind of target."""

    routing_key: SecretText = Field(title="the integration key in quotes, or ${NAME}, or routing_key_file")
    """The integration key of the service, for the Events API v2."""

    routing_key_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the key, in place of `routing_key`."""

    endpoint: BaseUrl = Field(
        default="https://events.pagerduty.com/v2/enqueue", title="an https URL (http for loopback hosts only)"
    )
    """Where events go; in PagerDuty's European region https://events.eu.pagerduty.com/v2/enqueue."""


class EmailNotification(NotificationKeys):
    """A mail for each alert, as text and as HTML, over SMTP."""

    type: Literal["email"] = Field(title="email")
    """The kind of target."""

    host: Annotated[str, AfterValidator(parse_address)] = Field(title="a host name or an IP address")
    """The mail server."""

    port: Whole | None = Field(default=None, ge=1, le=65_535, title="a whole number, 1 to 65,535")
    """Its port; left out: 587 for starttls, 465 for tls, 25 for none."""

    security: Literal["starttls", "tls", "none"] = Field(default="starttls", title="starttls, tls or none")
    """How the connection is secured; the server's certificate is always verified. `none` is for a server on
    this machine only."""

    username: Annotated[str, Field(min_length=1)] | None = Field(default=None, title="a user name")
    """Whom to log in as, where the server asks for it."""

    password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key password_file"
    )
    """The user's password."""

    password_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the password, in place of `password`."""

    sender: MailAddress = Field(title="a mail address")
    """Whom the mail is from."""

    recipients: Annotated[tuple[MailAddress, ...], BeforeValidator(listed), Field(min_length=1)] = Field(
        title="a mail address, or a list of them"
    )
    """Whom it goes to; all of them get one and the same mail."""


class SyslogNotification(NotificationKeys):
    """A line for each alert to a receiver of syslog."""

    type: Literal["syslog"] = Field(title="syslog")
    """The kind of target."""

    address: Annotated[str, AfterValidator(parse_address)] = Field(title="a host name or an IP address")
    """The receiver."""

    port: Whole = Field(ge=1, le=65_535, title="a whole number, 1 to 65,535")
    """Its port: 6514 over TLS, 514 otherwise, as a rule."""

    transport: Literal["tcp", "tls", "udp"] = Field(default="tcp", title="tcp, tls or udp")
    """How lines travel. UDP may lose them, and nobody can tell."""

    format: Literal["rfc5424", "cef"] = Field(default="rfc5424", title="rfc5424 or cef")
    """What a line says: `rfc5424` has the alert's fields as structured data, `cef` as ArcSight's Common Event
    Format behind the same header."""

    framing: Literal["newline", "octet-counting"] = Field(
        default="octet-counting", title="newline or octet-counting"
    )
    """How lines are told apart on TCP and TLS; over UDP each is a datagram of its own."""

    facility: Annotated[int, BeforeValidator(parse_facility)] = Field(
        default=10, title=f"a number, 0 to 23, or one of {', '.join(FACILITIES)}"
    )
    """The facility of every line: `authpriv` unless set. The severity is the alert's."""

    hostname: Annotated[str, AfterValidator(parse_line_host)] | None = Field(
        default=None, title="a host name without spaces"
    )
    """The host that each line names; left out, the machine's own name."""

    chain: FilePath | None = Field(default=None, title=_PEM)
    """The authority's certificates for `transport: tls`; left out, those that the system trusts."""

    cert: FilePath | None = Field(default=None, title=_PEM)
    """The client's certificate for `transport: tls`, if the receiver asks for one; `key` comes with it."""

    key: FilePath | None = Field(default=None, title=_PEM)
    """The client's private key for `transport: tls`."""

    key_password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key key_password_file"
    )
    """The password of the private key, if it has one."""

    key_password_file: FilePath | None = Field(default=None, title=_SECRET_FILE)
    """A file that holds the password, in place of `key_password`."""


class OutputNotification(NotificationKeys):
    """Alerts as records of the table `cloud.office365.alerts`, in one of the outputs."""

    type: Literal["output"] = Field(title="output")
    """The kind of target."""

    output: Name = Field(title="the name of an output")
    """Which of `outputs` gets them: as reliably as it gets its records, over connections or in a folder of
    their own. A lake has the alerts in a table anyway."""


TARGET_TYPES: dict[object, type[NotificationKeys]] = {
    "webhook": WebhookNotification,
    "slack": SlackNotification,
    "teams": TeamsNotification,
    "pagerduty": PagerDutyNotification,
    "email": EmailNotification,
    "syslog": SyslogNotification,
    "output": OutputNotification,
}
TARGET_TYPES_WANTED = "webhook, slack, teams, pagerduty, email, syslog or output"

NotificationSection = Annotated[
    Annotated[WebhookNotification, Tag("|WebhookNotification")]
    | Annotated[SlackNotification, Tag("|SlackNotification")]
    | Annotated[TeamsNotification, Tag("|TeamsNotification")]
    | Annotated[PagerDutyNotification, Tag("|PagerDutyNotification")]
    | Annotated[EmailNotification, Tag("|EmailNotification")]
    | Annotated[SyslogNotification, Tag("|SyslogNotification")]
    | Annotated[OutputNotification, Tag("|OutputNotification")],
    by_type(TARGET_TYPES),
]


def parse_webhook_url(text: str) -> str:
    """The URL unchanged: path and query are its own, for that is where webhooks have their secrets.

    Raises: ValueError: it is not https (http is for loopback only), or has a user name or a fragment.
    """
    if not URL_CHARACTERS.fullmatch(text):
        raise ValueError("has a space or a character that no URL has")
    scheme, _, rest = text.partition("://")
    parse_base_url(f"{scheme}://{re.split('[/?]', rest, maxsplit=1)[0]}")
    return text
