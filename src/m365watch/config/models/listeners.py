"""The section `board`: where the analyst's pages are served, and who may see what there."""

# Annotations stay objects here (`base.Section` says why).

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.common.urls import split_url
from m365watch.config.config_file import Places
from m365watch.config.document import BOARD, Document, section_at, texts_at
from m365watch.config.models.base import (
    OBJECT,
    ON_OFF,
    BaseUrl,
    FilePath,
    Guid,
    Label,
    SecretText,
    Section,
    Switch,
    TenantGuids,
    Whole,
    listed,
)
from m365watch.config.models.served_files import settle_served_file
from m365watch.config.models.webhook import parse_listen
from m365watch.config.secrets import FileGuard
from m365watch.config.validation_report import Report

FORWARDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
_ONE_ADDRESS = (
    "lacks x-forwarded-for: everybody has the proxy's address, and one stranger's wrong passwords"
    " hold up others' signing in; have the proxy set it, and name it here"
)
_FILE = "the path of a file in PEM"
_FILES = ("certificate_file", "private_key_file")


def parse_network(text: str) -> str:
    """The address or network, as it is compared; raises ValueError for anything else."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("is no address or network; give one such as 10.0.0.5 or 10.0.0.0/24") from None


def parse_forwarded(text: str) -> str:
    """The header's name in lower case; raises ValueError for one that is not read."""
    if text.lower() not in FORWARDED:
        raise ValueError(f"is none of {', '.join(FORWARDED)}")
    return text.lower()


class ProxySection(Section):
    """The proxy that requests come through. It has the certificate; nobody else is answered."""

    addresses: Annotated[
        tuple[Annotated[str, AfterValidator(parse_network)], ...],
        BeforeValidator(listed),
        Field(min_length=1, title="an address or network, or a list of them"),
    ]
    """Where it connects from: requests from any other address are refused."""

    headers: Annotated[
        tuple[Annotated[str, AfterValidator(parse_forwarded)], ...], BeforeValidator(listed)
    ] = Field(default=("x-forwarded-for", "x-forwarded-proto"), title=f"a list of {', '.join(FORWARDED)}")
    """The headers that it sets itself, whatever a browser sends, and which are therefore believed: the
    browser's address, whether it came by https, and the host that it asked for."""


class GrantSection(Section):
    """What one app role, or one group, may do."""

    claim: Label = Field(title="the value of an app role, or the object id of a group")
    """Whom it is for: the value of an app role of the application, or the object id of a group."""

    role: Literal["viewer", "analyst", "admin"] = Field(title="viewer, analyst or admin")
    """viewer: sees; analyst: also changes alerts, exports and asks; admin: also changes the configuration."""

    tenants: TenantGuids | None = Field(default=None, title="a GUID, or a list of GUIDs")
    """The tenants whose records they see, and no others. Left out: all."""

    contents: Switch = Field(default=True, title=ON_OFF)
    """Whether they see subjects, names of files, texts and raw records. Without, they see who did what, when
    and from where."""


class EntraSection(Section):
    """Signing in with Entra: an application with the redirect URI `ADDRESS/sign-in/entra/back`."""

    tenant_id: Guid = Field(title="a GUID")
    """The tenant whose people sign in."""

    login_url: BaseUrl = Field(
        default="https://login.microsoftonline.com", title="an https URL (http for loopback hosts only)"
    )
    """The host of Entra, in another cloud."""

    client_id: Guid = Field(title="a GUID")
    """The application's id."""

    client_secret: SecretText = Field(title="the secret in quotes, or ${NAME}, or the key client_secret_file")
    """The application's secret."""

    client_secret_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds it, in place of `client_secret`."""

    grants: tuple[GrantSection, ...] = Field(min_length=1, title="a list of objects with claim and role")
    """What app roles and groups may do. Of several the first counts; who has none is refused."""

    @property
    def issuer(self) -> str:
        """Who makes the id tokens; without a slash at its end."""
        return f"{self.login_url}/{self.tenant_id}/v2.0"


class BoardSection(Section):
    """Where the analyst's pages are served, and who may see what there.

    Without this section they are for this machine alone. `docs/board.md` says what each role may see.
    """

    listen: Annotated[str, AfterValidator(parse_listen)] = Field(
        default="127.0.0.1:8365", title="host:port, such as 127.0.0.1:8365"
    )
    """Where the pages are served; `--listen` says otherwise. Anywhere but on this machine this needs a
    certificate or a proxy, and somebody who can sign in."""

    address: BaseUrl | None = Field(default=None, title="an https URL (http for loopback hosts only)")
    """Where browsers reach it, such as `https://board.contoso.example`; other hosts are not answered."""

    certificate_file: FilePath | None = Field(default=None, title=_FILE)
    """The certificate for the host of `address`, with its chain. A renewed one is taken without a restart."""

    private_key_file: FilePath | None = Field(default=None, title=_FILE)
    """The certificate's key."""

    key_password: SecretText | None = Field(default=None, title="the password in quotes, or ${NAME}")
    """The key's password, where it has one."""

    key_password_file: FilePath | None = Field(default=None, title="the path of a file")
    """A file that holds it, in place of `key_password`."""

    proxy: ProxySection | None = Field(default=None, title=OBJECT)
    """The proxy before the board, in place of a certificate of its own."""

    sign_in: Switch = Field(default=False, title=ON_OFF)
    """Whether people on this machine have to sign in as well. Everybody else always has to."""

    idle_minutes: Whole = Field(default=60, ge=5, le=1_440, title="a whole number of minutes, 5 to 1,440")
    """How long a session lasts without a request."""

    session_hours: Whole = Field(default=12, ge=1, le=168, title="a whole number of hours, 1 to 168")
    """How long a session lasts at most; a change of groups in Entra counts from the next sign-in on."""

    entra: EntraSection | None = Field(default=None, title=OBJECT)
    """Signing in with Entra, beside the users of `m365watch board user`."""


def check_board(
    document: Document, *, places: Places, guard: FileGuard, report: Report, reads: bool = True
) -> None:
    """Refuse what does not go together, and make the paths absolute, in place.

    Where `reads` is false no file is looked at.
    """
    section = section_at(document, *BOARD)
    given = [key for key in _FILES if section.get(key) is not None]
    if given and section.get("proxy") is not None:
        report.refuse((*BOARD, "proxy"), f"is given beside {given[0]}; keep one of the two")
    elif len(given) == 1:
        other = next(key for key in _FILES if key not in given)
        report.refuse((*BOARD, other), f"is missing; {given[0]} needs it")
    has_address = isinstance(section.get("address"), str)
    for key in ("proxy", "entra", *_FILES[:1]):
        if section.get(key) is not None and not has_address:
            why = f"is missing; {key} needs it: the https URL at which browsers reach the board"
            report.refuse((*BOARD, "address"), why)
            break
    address = str(section.get("address") or "")
    if has_address and split_url(address).path.strip("/"):
        report.refuse((*BOARD, "address"), "has a path; the board has a host of its own")
    proxy = section.get("proxy")
    if isinstance(proxy, dict) and "headers" in proxy:
        believed = [one.lower() for one in texts_at(proxy, "headers")]
        if FORWARDED[0] not in believed:
            report.warn((*BOARD, "proxy", "headers"), _ONE_ADDRESS)
    for key in given:
        settle_served_file(section, (*BOARD, key), places.folder, guard if reads else None, report)
