"""Addresses that others wrote: records, browsers, servers, operators."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

NO_URL = SplitResult("", "", "", "", "")


def split_url(text: str) -> SplitResult:
    """The parts of an address; `NO_URL`, which has neither scheme nor host, for what is no address.

    Nothing is raised, here or when host and port are asked for: Python refuses some addresses as they are
    split (`https://[x/`), some by their port, and whoever asks for a scheme or a host has refused them then.
    """
    try:
        parts = urlsplit(text)
        # Read only when they are asked for, and may turn out to be none.
        _ = parts.hostname, parts.port
    except ValueError:
        return NO_URL
    return parts


def query_of(text: str) -> str:
    """The query of an address, whatever its host and port may be: for asking a host of one's own with it."""
    try:
        return urlsplit(text).query
    except ValueError:
        return ""
