"""Settings of outputs that speak syslog, and of several outputs side by side."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import wire_documents
from m365watch.http.settings import TlsSettings
from m365watch.outputs.syslog.spec import SyslogSection
from settings_documents import Document, filled_in, mistakes_of, settings_of
from wire_documents import DEVO, mistakes_with, output_of, settings_with

folder = wire_documents.folder


@pytest.mark.parametrize(
    ("kind", "line_format", "is_devos"),
    [("syslog", "rfc5424", False), ("in_house_relay", "devo", True), ("sidecar", "devo", True)],
)
def test_a_syslog_output_writes_what_its_name_promises(
    folder: Path, kind: str, line_format: str, is_devos: bool
) -> None:
    """Devo's in-house relay reads the line that Devo itself reads."""
    output = output_of(folder, kind, {"address": "10.0.0.1", "port": 6514})

    assert isinstance(output, SyslogSection)
    assert (output.name, output.place, output.format) == ("out", "10.0.0.1:6514", line_format)
    assert (output.host, output.secured_by) == (socket.gethostname(), None)
    assert (output.adds_devo_fields, output.sends_events) == (is_devos, is_devos)


def test_every_option_of_a_syslog_output_arrives(folder: Path) -> None:
    """Facility and severity by name or number, the transport under either of its keys."""
    config = {
        "address": "log.example",
        "port": "6514",
        "protocol": "tls",
        "chain": "chain.crt",
        "cert": "me.crt",
        "key": "me.key",
        "format": "rfc3164",
        "framing": "octet-counting",
        "facility": "LOCAL4",
        "severity": "error",
        "app_name": "m365-{table}",
        "retention_secs": 5,
    }
    output = output_of(folder, "syslog", config)

    assert isinstance(output, SyslogSection)
    found = output.config
    assert (found.transport, output.format, found.framing) == (
        "tls",
        "rfc3164",
        "octet-counting",
    )
    assert (found.facility, found.severity, found.app_name) == (20, 3, "m365-{table}")
    assert output.secured_by == TlsSettings(folder / "chain.crt", folder / "me.crt", folder / "me.key")
    assert found.retention_secs == 5


@pytest.mark.parametrize(
    ("changes", "mistakes"),
    [
        (
            {"facility": 24},
            ["config.facility: 24 (whole number) is not known; give a number, 0 to 23, or one"],
        ),
        (
            {"facility": True},
            ["config.facility: true (true or false) is not known; give a number, 0 to 23, or"],
        ),
        (
            {"severity": "bad"},
            ['config.severity: "bad" (text) is not known; give a number, 0 to 7, or one of'],
        ),
        (
            {"app_name": "a b"},
            ['config.app_name: "a b" (text) is no name of an application; give a text of up'],
        ),
        (
            {"app_name": "{tag}"},
            ['config.app_name: "{tag}" (text) is no name of an application; give a text'],
        ),
        (
            {"protocol": "ssl"},
            ['config.protocol: "ssl" (text) is not supported by this version; give tcp, tls'],
        ),
        (
            {"chain": "chain.crt"},
            ["config.chain: is for transport tls only; set the transport, or remove the"],
        ),
        ({"transport": "tls", "cert": "me.crt"}, ["config.key: is missing; cert needs it"]),
        (
            {"port": None, "address": None},
            ["config.address: is missing; give a host", "config.port: is missing;"],
        ),
        ({"compression_level": 1}, ["config.compression_level: unknown key; known here: address, port,"]),
    ],
)
def test_a_mistake_in_a_syslog_output_names_its_key(
    folder: Path, changes: Document, mistakes: list[str]
) -> None:
    """Keys of TLS without TLS are a mistake, for somebody meant the records to be safe."""
    found = mistakes_with(folder, "syslog", {"address": "a.example", "port": 514} | changes)

    assert [line[: len(start)] for line, start in zip(found, mistakes, strict=True)] == mistakes


def test_udp_and_devos_relay_under_its_other_name_are_warned_of(folder: Path) -> None:
    """Devo calls its relay's output `syslog` as well; RFC 5424 would not reach its tables."""
    relay = {"address": "127.0.0.1", "port": 13_000, "concurrent_connections": 2}
    udp = {"address": "127.0.0.1", "port": 514, "transport": "udp"}

    assert settings_with(folder, "syslog", relay).warnings == (
        (
            "outputs.out.config.format: is left out; this looks like Devo's in-house relay, so lines are "
            "written as devo; for another receiver give rfc5424"
        ),
    )
    [output] = settings_with(folder, "syslog", relay).outputs
    assert isinstance(output, SyslogSection)
    assert output.format == "devo"
    assert settings_with(folder, "in_house_relay", relay).warnings == ()
    assert settings_with(folder, "syslog", relay | {"format": "devo"}).warnings == ()
    assert settings_with(folder, "syslog", udp).warnings == (
        "outputs.out.config.transport: udp may lose lines, and neither side can tell; use tcp or tls",
    )


def test_what_needs_a_connection_is_told_to_have_no_effect_over_udp(folder: Path) -> None:
    """Of Devo's keys for sending, the time-out, the figures and the longest line count there too."""
    udp = {"address": "127.0.0.1", "port": 514, "transport": "udp", "format": "devo"}
    used = {"sending_timeout": 7, "period_sender_stats_in_seconds": 60, "line_bytes_max": 2_048}
    unused = {"concurrent_connections": 2, "connecting_retries": 3, "framing": "newline", "retention_secs": 9}

    _, *warnings = settings_with(folder, "syslog", udp | used | unused).warnings

    assert warnings == [f"outputs.out.config.{key}: has no effect over udp" for key in sorted(unused)]


def test_outputs_stand_side_by_side_and_one_can_be_switched_off(folder: Path) -> None:
    """Every output that is switched on gets every record; one that is off is not read further."""
    outputs = {
        "devo": {"type": "devo_platform", "config": DEVO},
        "relay": {"type": "in_house_relay", "config": {"address": "127.0.0.1", "port": 13_000}},
        "lake": {"type": "lake"},
        "old": {"type": "devo_platform", "enabled": "false", "config": {"key": "<gone>"}},
    }
    settings = settings_of(filled_in() | {"outputs": outputs}, path=folder / "c.yaml")

    assert [output.name for output in settings.outputs] == ["devo", "relay", "lake"]
    assert settings.warnings == ("outputs.old: is switched off and was not read",)


def test_a_collector_with_every_output_switched_off_is_refused() -> None:
    """A lake that nobody asked for would take its records."""
    outputs = {"a": {"type": "lake", "enabled": False}}

    assert mistakes_of(filled_in() | {"outputs": outputs}) == [
        "outputs: every output is switched off; switch one on, or remove the key"
    ]
