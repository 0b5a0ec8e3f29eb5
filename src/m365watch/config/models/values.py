"""The single values of a configuration: how each is written, and what it is turned into.

Every function here takes one value and raises ValueError with the end of a sentence that
starts with that value: "is not a GUID".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
TAG_LEVEL = re.compile(r"[A-Za-z0-9_-]+")
_TAG_PLACEHOLDER = re.compile(r"\{(?:workload|operation)\}")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""What stands for a variable of the environment."""
_PERIOD = re.compile(r"([1-9][0-9]{0,5})([smhdwMy])")
PERIOD_UNITS_S = {
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "M": 2_592_000,
    "y": 31_536_000,
}


def is_guid(text: str) -> bool:
    """Whether the text is written as a GUID, in either case."""
    return GUID.fullmatch(text.lower()) is not None


def parse_guid(text: str) -> str:
    """The GUID in lower case."""
    if is_guid(text):
        return text.lower()
    raise ValueError("is not a GUID")


def parse_tenant_id(text: str) -> str:
    """The tenant's GUID in lower case; a domain is refused, since the API would refuse it later."""
    if _DOMAIN.fullmatch(text.lower()):
        raise ValueError("is a domain, and the API knows a tenant by its GUID only")
    return parse_guid(text)


def parse_domain(text: str) -> str:
    """The domain in lower case."""
    plain = text.strip().lower().removeprefix("@").removesuffix(".")
    if len(plain) <= 253 and _DOMAIN.fullmatch(plain):
        return plain
    raise ValueError("is not a domain such as contoso.com")


def parse_instant(text: str) -> datetime:
    """The instant in UTC: ISO 8601 with Z, an offset or neither (then UTC), or a date alone."""
    try:
        instant_at = datetime.fromisoformat(text.strip())
        aware_at = instant_at if instant_at.tzinfo else instant_at.replace(tzinfo=UTC)
        utc_at = aware_at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not an instant") from None
    if not 2000 <= utc_at.year < 2100:
        raise ValueError("is not in the years 2000 to 2099")
    return utc_at


def parse_tag(text: str) -> str:
    """The tag unchanged, if it has 2 to 6 levels of letters, digits, _ and -."""
    levels = text.split(".")
    if 2 <= len(levels) <= 6 and all(map(TAG_LEVEL.fullmatch, levels)):
        return text
    raise ValueError("is not a Devo tag")


def parse_table_name(text: str) -> str:
    """The table's whole name unchanged, as Devo has it."""
    try:
        return parse_tag(text)
    except ValueError:
        raise ValueError(
            "is not the name of a table; give it whole, as in cloud.office365.management.exchange"
        ) from None


def parse_tag_template(text: str) -> str:
    """The tag unchanged; in its levels, {workload} and {operation} stand for those of a record."""
    filled = _TAG_PLACEHOLDER.sub("x", text)
    if "{" in filled or "}" in filled:
        raise ValueError("has a brace that belongs neither to {workload} nor to {operation}")
    parse_tag(filled)
    return text


def parse_name(text: str) -> str:
    """The name unchanged, if it has 1 to 64 letters, digits, _ and -."""
    if NAME.fullmatch(text):
        return text
    raise ValueError("is not a name")


def parse_collector_name(text: str) -> str:
    """The collector's name with ".", "#" and " " replaced by "_", as Devo does."""
    return parse_name(re.sub(r"[.# ]", "_", text))


def parse_switch(value: object) -> object:
    """True or False for the texts "true" and "false", and unchanged if it is one already."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise ValueError("is neither true nor false")


def parse_label(value: object) -> object:
    """A whole number as its text, since YAML reads an unquoted 12345 as one; others unchanged."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def parse_period_s(text: str) -> int:
    """The length in seconds of Devo's "1m", "1h", "1d" and the like; a month has 30 days."""
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise ValueError("is not a period")
    return int(match[1]) * PERIOD_UNITS_S[match[2]]
