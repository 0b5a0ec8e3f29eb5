"""Where this machine gives out the tokens of its managed identity.

Source: Azure's pages "How to use managed identities for Azure resources on an Azure VM to acquire an access
token" (IMDS) and "How to use managed identities for App Service and Azure Functions" (IDENTITY_ENDPOINT and
IDENTITY_HEADER); api-contract 1.9.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from m365watch.common.secret import Secret
from m365watch.common.urls import split_url
from m365watch.config.models.settings import IMDS_URL, IdentityEndpoint
from m365watch.config.secrets_secrets import RESPONSE
from m365watch.config.sections import Document, section_at
from m365watch.config.validation_report import Report

APP_SERVICE_VARIABLES = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
"""Set by App Service, Functions and Container Apps."""
OVERRIDE_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
"""Another place for IMDS, as Azure's own libraries know it; here for loopback only."""


def identity_endpoint(
    document: Document, *, environment: Mapping[str, str], report: Report, reads: bool
) -> IdentityEndpoint:
    """Where the environment says that tokens are given out; what it says wrongly is in `report`.

    It is looked at only if some input uses a managed identity, and if `reads` is true.
    """
    paths = (*(("inputs", name, "credentials") for name in section_at(document, "inputs")), RESPONSE)
    where = next((path for path in paths if _uses_identity(document, path)), None)
    if where is None or not reads:
        return IdentityEndpoint()
    try:
        return _endpoint(environment)
    except ValueError as error:
        report.refuse((*where, "managed_identity"), str(error))
        return IdentityEndpoint()


def _uses_identity(document: Document, path: tuple[str, ...]) -> bool:
    credentials = section_at(document, *path)
    given = [section.get("managed_identity") for section in (credentials, section_at(credentials, "second"))]
    return any(one not in (None, False, "false") for one in given)


def _endpoint(environment: Mapping[str, str]) -> IdentityEndpoint:
    """App Service's where both its variables are set, else IMDS.

    Raises:
        ValueError: the end of a mistake's line.
    """
    url, header = (environment.get(name) for name in APP_SERVICE_VARIABLES)
    if url and header:
        if not _is_near(url, link_local=True):
            raise ValueError(
                "cannot be had: the variable IDENTITY_ENDPOINT is no http address of this machine; "
                "unset it, or set it as App Service does"
            )
        return IdentityEndpoint(url.rstrip("/"), Secret(header))
    override = environment.get(OVERRIDE_VARIABLE)
    if not override:
        return IdentityEndpoint()
    if not _is_near(override, link_local=override.rstrip("/") == IMDS_URL):
        raise ValueError(
            f"cannot be had: the variable {OVERRIDE_VARIABLE} may name a loopback address only; unset it"
        )
    return IdentityEndpoint(override.rstrip("/"))


def _is_near(url: str, *, link_local: bool) -> bool:
    """Whether it is plain http to this machine itself; or to its link, where only its host answers."""
    parts = split_url(url)
    host = parts.hostname or ""
    is_plain = parts.scheme == "http" and parts.port != 0 and "@" not in url
    if host == "localhost":
        return is_plain
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return is_plain and (address.is_loopback or (link_local and address.is_link_local))
