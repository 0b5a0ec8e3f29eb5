"""The options of `m365watch consent`, and the question to the administrator that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import require_config

if TYPE_CHECKING:
    from m365watch.auth.consent.authorization_request import ConsentForm
    from m365watch.config.config_file import FileText
    from m365watch.config.models.clouds import Cloud

InputOption = Annotated[
    str | None,
    typer.Option("--input", metavar="NAME", help="Which input; left out, the only one.", show_default=False),
]
FormOption = Annotated[
    str | None,
    typer.Option(
        "--form",
        metavar="FORM",
        help="admin (the admin-consent page), code (sign-in, v2) or v1 (sign-in, as on the product page).",
        show_default=False,
    ),
]
TenantOption = Annotated[
    str,
    typer.Option("--tenant", metavar="TENANT", help="Ask this tenant only, by its GUID or a domain of it."),
]
RedirectUriOption = Annotated[
    str | None,
    typer.Option(
        "--redirect-uri",
        metavar="URL",
        help="As registered on the application; left out, http://localhost:8400/consent.",
        show_default=False,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Write the tenant without asking.")]
NoWriteOption = Annotated[
    bool, typer.Option("--no-write", help="Only tell the tenant; leave the configuration as it is.")
]


def read_config(config: Path | None) -> FileText:
    """The text of the configuration that is named, or that is found.

    Raises: typer.BadParameter: there is none; SettingsRefused: it cannot be read.
    """
    from m365watch.config.config_file import read_whole

    return read_whole(require_config(config))


def parse_form(text: str) -> ConsentForm:
    """The form of that name; raises typer.BadParameter."""
    from m365watch.auth.consent.authorization_request import ConsentForm

    try:
        return ConsentForm(text)
    except ValueError:
        raise typer.BadParameter(f'--form: "{text}" is none; give {", ".join(ConsentForm)}') from None


def parse_authority(text: str) -> str:
    """A GUID, a domain, `common` or `organizations`, in lower case; raises typer.BadParameter."""
    import re

    if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", text.lower()):
        return text.lower()
    raise typer.BadParameter(f'--tenant: "{text}" is neither a GUID nor a domain')


def parse_redirect(text: str | None, *, is_served: bool = False) -> str:
    """The redirect URI, or the usual one; raises typer.BadParameter for what Entra or we cannot use."""
    from m365watch.auth.consent.authorization_request import LOOPBACK_HOSTS, REDIRECT_URI, parse_redirect_uri
    from m365watch.common.urls import split_url

    try:
        uri = parse_redirect_uri(text or REDIRECT_URI)
    except ValueError as error:
        raise typer.BadParameter(f'--redirect-uri: "{text}" {error}') from None
    parts = split_url(uri)
    if is_served and (parts.scheme != "http" or parts.hostname not in LOOPBACK_HOSTS):
        raise typer.BadParameter(
            f'--redirect-uri: "{text}" is not served from here; give http://localhost with a port,'
            " or use `consent url` and `consent exchange`"
        )
    return uri


def parse_clouds(text: str) -> list[Cloud]:
    """The cloud of that name, or all of them; raises typer.BadParameter."""
    from m365watch.config.models.clouds import CLOUDS

    if text == "all":
        return list(CLOUDS.values())
    if text not in CLOUDS:
        raise typer.BadParameter(f'--cloud: "{text}" is none; give {", ".join(CLOUDS)} or all')
    return [CLOUDS[text]]


def parse_client_id(text: str) -> str:
    """The application's GUID in lower case; raises typer.BadParameter."""
    from m365watch.config.models.values import parse_guid

    try:
        return parse_guid(text)
    except ValueError as error:
        raise typer.BadParameter(f'--client-id: "{text}" {error}') from None
