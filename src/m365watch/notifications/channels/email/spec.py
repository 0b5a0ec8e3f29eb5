"""Channel `email`: mail over SMTP."""

# Annotations stay objects here (`config.models.base.Section` says why).

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models.base import FilePath, SecretText, Whole, listed
from m365watch.config.models.clouds import is_loopback
from m365watch.config.models.notifications import ChannelSection, DigestAfter, Rate
from m365watch.config.models.wire_values import parse_address
from m365watch.config.validation_report import KeyPath
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender

_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _parse_mail_address(text: str) -> str:
    """The address unchanged; a name beside it is refused."""
    if len(text) <= 254 and _MAIL_ADDRESS.fullmatch(text):
        return text
    raise ValueError("is no mail address such as soc@contoso.com; give the bare address")


MailAddress = Annotated[str, AfterValidator(_parse_mail_address)]


class EmailSection(ChannelSection):
    """A mail for each alert, as text and as HTML, over SMTP."""

    type: Literal["email"] = Field(title="email")

    rate_limit_per_minute: Rate = 6
    digest_after: DigestAfter = 10

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

    password_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the password, in place of `password`."""

    sender: MailAddress = Field(title="a mail address")
    """Whom the mail is from."""

    recipients: Annotated[tuple[MailAddress, ...], BeforeValidator(listed), Field(min_length=1)] = Field(
        title="a mail address, or a list of them"
    )
    """Whom it goes to; all of them get one and the same mail."""

    @property
    def server_port(self) -> int:
        """As set, or as such servers have it."""
        return self.port or _PORTS[self.security]

    @classmethod
    def disagreements(cls, options: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """Half of a login, and alerts in the clear that leave this machine."""
        host = options.get("host")
        if options.get("security") == "none" and isinstance(host, str) and not is_loopback(host.lower()):
            why = "would send alerts unencrypted; it is for a server on this machine; give starttls or tls"
            yield (*path, "security"), why
        for one, other in (("username", "password"), ("password", "username")):
            if options.get(one) is not None and options.get(other) is None:
                yield (*path, other), f"is missing; {one} needs it"


def _build(channel: Channel[EmailSection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.email.smtp_sender import SmtpSender

    return SmtpSender(channel, collector=context.collector)


SPEC = ChannelSpec(
    type="email",
    arrives="a mail as text and HTML, one conversation for each alert",
    needs="a server that takes mail over STARTTLS (587) or TLS (465), a login",
    section=EmailSection,
    build=_build,
)
