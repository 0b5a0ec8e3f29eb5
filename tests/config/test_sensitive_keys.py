"""Which keys hold secrets or say where these go, as the schema has it."""

from __future__ import annotations

import pytest

from m365watch.config.reference import keys_below
from m365watch.config.sensitive_keys import destinations_of, read_section, sensitive_keys

ONLY_SAID = {
    "network.bind_address": "where connections come from",
    "config.hostname": "what a line says",
}


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_every_key_with_an_address_is_a_destination(kind: str) -> None:
    """A key that is added later is covered as well, or stands here with the reason why it is none."""
    types = ("lake", "files", "devo_platform", "devo_http", "syslog", "console")
    named = {row.path for type_ in types for row in keys_below(kind, type_)}
    words = ("url", "address", "host", "endpoint", "proxy", "chain", "ca_bundle", "domain")
    reached = {
        one for one in named if any(word in one.rpartition(".")[2].split("_") for word in words)
    } - ONLY_SAID.keys()
    covered = sensitive_keys(kind)

    about_proxy = {"network.proxy_username", "network.proxy_password", "network.proxy_password_file"}
    about_input = {"token_endpoint"}
    missed = {one for one in reached if not covered.is_destination(tuple(one.split(".")))}
    assert missed <= about_proxy | about_input
    assert reached - missed


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("inputs", "services: {}", "cloud: worldwide"),
        ("inputs", "network: {no_proxy: []}", "network: {read_timeout_in_seconds: 5}"),
        (
            "outputs",
            "{type: relay, config: {url: a, port: 1}}",
            "{type: relay, config: {address: a, port: '1'}}",
        ),
        (
            "outputs",
            "{type: syslog, config: {address: a}}",
            "{type: SYSLOG, config: {address: a, protocol: tcp}}",
        ),
    ],
)
def test_what_is_written_otherwise_goes_to_the_same_destination(kind: str, one: str, other: str) -> None:
    """Defaults are filled in, and each key has one name."""
    assert destinations_of(kind, read_section(kind, "x", one)) == destinations_of(
        kind, read_section(kind, "x", other)
    )
