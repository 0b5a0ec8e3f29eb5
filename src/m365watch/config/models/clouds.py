"""Microsoft's clouds and their hosts, and the check of a cloud of one's own."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from m365watch.common.urls import split_url


@dataclass(frozen=True, slots=True)
class Cloud:
    """The hosts of one Microsoft cloud, without a trailing slash."""

    name: str
    login_url: str
    management_url: str
    audience: str
    """The `resource` that a token is asked for; the management host unless set."""
    graph_url: str = ""
    """Microsoft Graph; empty where a cloud of one's own names none."""
    token_endpoint: str | None = None
    """v1 or v2; None: v2, and v1 where there is no v2."""


_HOSTS = {
    "worldwide": (
        "https://login.microsoftonline.com",
        "https://manage.office.com",
        "https://graph.microsoft.com",
    ),
    "gcc": (
        "https://login.microsoftonline.com",
        "https://manage-gcc.office.com",
        "https://graph.microsoft.com",
    ),
    "gcc-high": (
        "https://login.microsoftonline.us",
        "https://manage.office365.us",
        "https://graph.microsoft.us",
    ),
    "dod": (
        "https://login.microsoftonline.us",
        "https://manage.protection.apps.mil",
        "https://dod-graph.microsoft.us",
    ),
    "china": (
        "https://login.partner.microsoftonline.cn",
        "https://manage.office365.cn",
        "https://microsoftgraph.chinacloudapi.cn",
    ),
}

CLOUDS = {
    name: Cloud(name, login_url=login, management_url=management, audience=management, graph_url=graph)
    for name, (login, management, graph) in _HOSTS.items()
}
"""Every cloud of Microsoft's, by the name that the setting `cloud` takes.

Source: Management Activity API reference, "Activity API operations" (worldwide, GCC, GCC High,
DoD); Entra's national clouds page (login hosts). Microsoft's public pages do not name the
management host of China; seven public programs agree on this one. Graph's hosts are those of its
page on national clouds; its audit log queries are documented for the worldwide service alone.
"""

URL_CHARACTERS = re.compile(r"[!-~]+")
_HOST_CHARACTERS = re.compile(r"[a-z0-9.:_-]+")


def is_microsofts(cloud: Cloud) -> bool:
    """Whether the API is called at one of Microsoft's hosts, where its request budget holds."""
    host = split_url(cloud.management_url).hostname
    return any(host == split_url(known.management_url).hostname for known in CLOUDS.values())


def parse_base_url(text: str) -> str:
    """The URL without a trailing slash.

    Raises:
        ValueError: it is not https (http is for loopback only), or has more than host, port and path.
    """
    if not URL_CHARACTERS.fullmatch(text):
        raise ValueError("has a space or a character that no URL has")
    parts = split_url(text)
    host = "" if parts.port == 0 else parts.hostname or ""
    if "@" in text or "?" in text or "#" in text:
        raise ValueError("has a user name, a query or a fragment")
    if not _HOST_CHARACTERS.fullmatch(host) or parts.scheme not in {"http", "https"}:
        raise ValueError("is not an https URL")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("would send the secret unencrypted; http is for loopback hosts only")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
