"""Addresses that anybody can write end in their parts, or in none."""

from __future__ import annotations

import pytest

from m365watch.common.urls import NO_URL, split_url

NO_ADDRESSES = (
    "http://[",
    "https://[x/a",
    "https://a]b/",
    "https://127.9[]/x",
    "https://a.\u2100/",
    "https://a:b/",
    "//a:99999/",
)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_has_neither_scheme_nor_host(text: str) -> None:
    """Python raises over each: as it is split, or as its port is read."""
    parts = split_url(text)

    assert parts is NO_URL
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("", None, None, "")


def test_an_address_comes_apart() -> None:
    """As Python does it."""
    parts = split_url("https://[::1]:8365/a?b=c#d")

    assert (parts.scheme, parts.hostname, parts.port, parts.query) == ("https", "::1", 8365, "b=c")
