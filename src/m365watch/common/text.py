"""What a service said, made fit for one line of an error: short, printable, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote_plus


def plain(text: str) -> str:
    """The text on one line: a blank for what is not shown, moves a cursor or turns writing."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


LENGTH_MAX = 240
"""Characters of a service's own words that an error quotes."""

_READ_MAX = 4_096
_TRACE = re.compile(r" (?:Trace ID|Correlation ID|Timestamp): ")


def one_line(said: str, *, hide: Iterable[str] = ()) -> str:
    """The first line of `said`: no control characters, no trace ids, stars for each of `hide`.

    At most `LENGTH_MAX` characters. A secret is hidden as it is and as a form carries it.
    """
    for secret in hide:
        for shown in (secret, quote_plus(secret)):
            said = said.replace(shown, "***") if shown else said
    first = said[:_READ_MAX].strip().partition("\n")[0].partition("\r")[0]
    plain = _TRACE.split(first)[0]
    if not plain.isprintable():
        plain = "".join(sign if sign.isprintable() else " " for sign in plain).strip()
    return plain if len(plain) <= LENGTH_MAX else f"{plain[: LENGTH_MAX - 3]}..."
