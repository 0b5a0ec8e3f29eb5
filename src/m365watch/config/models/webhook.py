"""The keys of `globals.webhook`: where Microsoft may tell of new content, beside the polling."""

# Annotations stay objects here (`base.Section` says why).

from typing import Annotated

from pydantic import AfterValidator, Field

from m365watch.config.config_file import Places
from m365watch.config.document import WEBHOOK, Document, section_at
from m365watch.config.models.base import ON_OFF, BaseUrl, FilePath, SecretText, Section, Switch, Whole
from m365watch.config.models.served_files import settle_served_file
from m365watch.config.secrets import FileGuard
from m365watch.config.validation_report import Report

AUTH_ID_CHARACTERS_MIN = 16
"""A shorter one could be guessed."""


def parse_listen(text: str) -> str:
    """The text, if it is host:port; raises ValueError for anything else."""
    host, port = split_listen(text)
    if not host or not host.isascii() or not host.isprintable() or " " in host:
        raise ValueError(
            "is no host:port; give one such as 127.0.0.1:8080, or 0.0.0.0:8443 for all addresses"
        )
    if not 0 <= port <= 65_535:
        raise ValueError("has a port that is none; give one from 1 to 65535")
    return text.strip()


def split_listen(text: str) -> tuple[str, int]:
    """Host, without brackets, and port; -1 for what is none."""
    host, separator, port = text.strip().rpartition(":")
    is_number = separator and port.isascii() and port.isdecimal() and len(port) <= 5
    return host.strip("[]"), int(port) if is_number else -1


class WebhookSection(Section):
    """Webhook mode: Microsoft tells of new content, which is then fetched at once. Polling goes on as before.

    `docs/webhook.md` says when it is worth it.
    """

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the collector listens, and tells Microsoft so. Switched off, webhooks end by themselves within
    three days."""

    address: BaseUrl = Field(title="an https URL (http for loopback hosts only)")
    """Where Microsoft reaches the collector, or the proxy before it; each tenant's id is put at its end."""

    listen: Annotated[str, AfterValidator(parse_listen)] = Field(
        default="127.0.0.1:8080", title="host:port, such as 127.0.0.1:8080"
    )
    """Where the collector itself listens. Left out, only on this machine, for a proxy."""

    auth_id: SecretText = Field(title="a long random text, or ${NAME}, or the key auth_id_file")
    """What Microsoft shows with each call (`Webhook-AuthID`), at least 16 characters; nothing is taken
    without it. `openssl rand -hex 24` makes one."""

    auth_id_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds it, in place of `auth_id`."""

    certificate_file: FilePath | None = Field(default=None, title="the path of a file in PEM")
    """The certificate for the host of `address`, with its chain, from an authority that Microsoft trusts. A
    renewed one is taken without a restart."""

    private_key_file: FilePath | None = Field(default=None, title="the path of a file in PEM")
    """The certificate's key."""

    key_password: SecretText | None = Field(default=None, title="the password in quotes, or ${NAME}")
    """The key's password, where it has one."""

    key_password_file: FilePath | None = Field(default=None, title="the path of a file")
    """A file that holds it, in place of `key_password`."""

    behind_proxy: Switch = Field(default=False, title=ON_OFF)
    """Whether a proxy before the collector has the certificate, and passes on what comes, path included."""

    requests_per_minute: Whole = Field(default=600, ge=1, le=100_000, title="a whole number, 1 to 100,000")
    """How many calls are taken in a minute; one beyond is told to come again later."""

    @property
    def host(self) -> str:
        """Where it listens, without brackets."""
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        """0 is any free one."""
        return split_listen(self.listen)[1]


def check_webhook(
    document: Document, *, places: Places, guard: FileGuard, report: Report, reads: bool = True
) -> None:
    """Refuse what does not go together, and make the paths absolute, in place.

    Where `reads` is false no file is looked at.
    """
    section = section_at(document, *WEBHOOK)
    if not section:
        return
    given = {key for key in ("certificate_file", "private_key_file") if section.get(key) is not None}
    is_proxied = str(section.get("behind_proxy", False)).strip().lower() == "true"
    address = section.get("address")
    if is_proxied and given:
        report.refuse((*WEBHOOK, "behind_proxy"), "is given beside certificate_file; keep one of the two")
    elif len(given) == 1:
        [one] = given
        other = "private_key_file" if one == "certificate_file" else "certificate_file"
        report.refuse((*WEBHOOK, other), f"is missing; {one} needs it")
    elif not given and not is_proxied and str(address).lower().startswith("https:"):
        why = "is missing; give it with private_key_file, or behind_proxy: true where a proxy has it"
        report.refuse((*WEBHOOK, "certificate_file"), why)
    auth_id = section.get("auth_id")
    # What was not read has no length; why it was not is told already.
    is_read = reads and not report.mistakes.keys() & {(*WEBHOOK, "auth_id"), (*WEBHOOK, "auth_id_file")}
    if is_read and isinstance(auth_id, str) and 0 < len(auth_id) < AUTH_ID_CHARACTERS_MIN:
        why = f"has fewer than {AUTH_ID_CHARACTERS_MIN} characters; openssl rand -hex 24 makes a good one"
        report.refuse((*WEBHOOK, "auth_id"), why)
    for key in sorted(given):
        settle_served_file(section, (*WEBHOOK, key), places.folder, guard if reads else None, report)
