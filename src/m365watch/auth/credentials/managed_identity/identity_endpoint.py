"""Where this machine gives out the tokens of its managed identity.

Source: Azure's pages "How to use managed identities for Azure resources on an Azure VM to acquire an access
token" (IMDS) and "How to use managed identities for App Service and Azure Functions" (IDENTITY_ENDPOINT and
IDENTITY_HEADER); api-contract 1.9.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from m365watch.common.secret import Secret
from m365watch.common.urls import split_url

APP_SERVICE_VARIABLES = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
"""Set by App Service, Functions and Container Apps."""
OVERRIDE_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
"""Another place for IMDS, as Azure's own libraries know it; here for loopback only."""
IMDS_URL = "http://169.254.169.254"
"""Azure's Instance Metadata Service: link-local, and plain http by its nature."""


@dataclass(frozen=True, slots=True)
class IdentityEndpoint:
    """Where a machine gives out the tokens of its managed identity."""

    url: str = IMDS_URL
    """Of IMDS without its path; of App Service whole."""
    header: Secret | None = None
    """App Service's own secret, which shows that a request comes from inside; None: this is IMDS."""


def find_endpoint(environment: Mapping[str, str]) -> IdentityEndpoint:
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
