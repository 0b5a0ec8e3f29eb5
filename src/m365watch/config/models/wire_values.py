"""The single values of outputs that send over a network: how each is written, and what it is turned into.

Every function here takes one value and raises ValueError with the end of a sentence that
starts with that value, as those of `config.values` do.
"""

from __future__ import annotations

import ipaddress
import re

from m365watch.config.models.values import TAG_LEVEL, parse_tag

TABLE_PREFIX = "cloud.office365.management."
"""Where Devo keeps the tables of this collector; a known table may be named by what follows."""

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8))),
)
"""The names of syslog's facilities, by their numbers.

Source: RFC 5424, section 6.2.1, with the short names of syslog.conf.
"""

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""The names of syslog's severities, by their numbers.

Source: RFC 5424, section 6.2.1.
"""

_SEVERITY_SPELLINGS = {"emergency": "emerg", "critical": "crit", "error": "err", "warn": "warning"}
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?")
_LINE_HOST = re.compile(r"[!-~]{1,255}")
_APP_NAME = re.compile(r"[!-~]{1,48}")
_URL_PART = re.compile(r"[A-Za-z0-9_.@~-]{1,255}")


def parse_address(text: str) -> str:
    """The host name or IP address unchanged."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not _HOST_NAME.fullmatch(text):
            raise ValueError(
                "is neither a host name nor an IP address; the port has a key of its own"
            ) from None
    return text


def parse_line_host(text: str) -> str:
    """The host of a syslog line unchanged, if it has 1 to 255 printable characters and no space."""
    if _LINE_HOST.fullmatch(text):
        return text
    raise ValueError("has a space or a character that no host in a syslog line has")


def parse_app_name(text: str) -> str:
    """The name of the sending application unchanged; {table} in it stands for a record's table."""
    if _APP_NAME.fullmatch(text) and not re.search(r"[{}]", text.replace("{table}", "")):
        return text
    raise ValueError("is no name of an application")


def parse_transport_type(text: str) -> str:
    """SSL for SSL and TLS in any case: Devo takes nothing else, and nothing else is verified."""
    if text.upper() in {"SSL", "TLS"}:
        return "SSL"
    raise ValueError("would send records unencrypted to whoever answers, which this output never does")


def parse_table(text: str) -> str:
    """The full name of a table; one level alone is a table below cloud.office365.management."""
    return TABLE_PREFIX + text if TAG_LEVEL.fullmatch(text) else parse_tag(text)


def parse_url_part(text: str) -> str:
    """The text unchanged, if it can be one part of a URL as it is."""
    if _URL_PART.fullmatch(text):
        return text
    raise ValueError("has a character that does not belong there")


def parse_facility(value: object) -> int:
    """The facility's number, from its name or its number."""
    return _numbered(value, FACILITIES)


def parse_severity(value: object) -> int:
    """The severity's number, from its name or its number."""
    if isinstance(value, str):
        value = _SEVERITY_SPELLINGS.get(value.lower(), value)
    return _numbered(value, SEVERITIES)


def _numbered(value: object, names: tuple[str, ...]) -> int:
    name = str(value).strip().lower()
    if name in names:
        return names.index(name)
    if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,2}", name) and int(name) < len(names):
        return int(name)
    raise ValueError("is not known")
