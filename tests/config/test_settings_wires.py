"""Outputs that send over a network: Devo's keys with Devo's defaults, and nothing sent unverified."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from m365watch.config.settings import (
    CompressionSettings,
    DevoHttpSettings,
    DevoSettings,
    OutputSettings,
    Settings,
    SyslogSettings,
    TagSettings,
    TlsSettings,
    WireSettings,
)
from settings_documents import Document, filled_in, mistakes_of, settings_of

EU = "collector-eu.devo.io"
TOKEN = "0123456789abcdef0123456789abcdef"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"
DEVO = {"address": EU, "port": 443, "type": "SSL", "chain": "chain.crt", "cert": "me.crt", "key": "me.key"}
HTTP = {"endpoint": "https://http-eu.devo.io/", "domain": "acme", "token": TOKEN}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration's folder with the three files of a Devo domain in it."""
    for name, text in (("chain.crt", CERTIFICATE), ("me.crt", CERTIFICATE), ("me.key", PRIVATE_KEY)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def document_of(kind: str, config: object, **rest: object) -> Document:
    return filled_in() | {"outputs": {"out": {"type": kind, "config": config}}} | rest


def settings_with(folder: Path, kind: str, config: object, **rest: object) -> Settings:
    return settings_of(document_of(kind, config, **rest), path=folder / "config.yaml")


def output_of(folder: Path, kind: str, config: object, **rest: object) -> OutputSettings:
    (output,) = settings_with(folder, kind, config, **rest).outputs
    return output


def mistakes_with(folder: Path, kind: str, config: object, **rest: object) -> list[str]:
    return [
        line.removeprefix("outputs.out.")
        for line in mistakes_of(document_of(kind, config, **rest), path=folder / "config.yaml")
    ]


# devo_platform.


@pytest.mark.parametrize("kind", ["devo_platform", "relay", "Devo-Platform"])
def test_devos_output_as_devo_documents_it_has_devos_defaults(folder: Path, kind: str) -> None:
    """The keys of Devo's own example, and nothing to add."""
    settings = settings_with(folder, kind, DEVO | {"port": "443"})

    assert settings.outputs == (
        DevoSettings(
            name="out",
            address=EU,
            port=443,
            tls=TlsSettings(chain=folder / "chain.crt", cert=folder / "me.crt", key=folder / "me.key"),
            host=socket.gethostname(),
            wire=WireSettings(),
            compression=CompressionSettings(),
            tags=TagSettings(),
            adds_devo_fields=True,
            sends_notices=True,
        ),
    )
    assert settings.warnings == ()


def test_every_option_of_devos_output_arrives(folder: Path) -> None:
    """Seconds, megabytes and names come out in the units of the settings; quoted numbers too."""
    config = DEVO | {
        "concurrent_connections": "2",
        "period_sender_stats_in_seconds": 60,
        "connecting_retries": 3,
        "connecting_initial_wait_in_seconds": 1,
        "connecting_max_wait_in_seconds": 30,
        "sending_timeout": "7",
        "sending_retries": 4,
        "sending_initial_wait_in_seconds": 3,
        "sending_max_wait_in_seconds": 40,
        "retention_megabytes": 32,
        "retention_secs": 20,
        "line_bytes_max": 65_536,
        "idle_secs": 90,
        "threshold_for_using_gzip_in_transport_layer": "-0.5",
        "compression_level": 9,
        "compression_buffer_in_bytes": 100_000,
        "key_password": "opens it",
        "verify_hostname": True,
        "hostname": "collector-7",
        "fallback_tag": "my.app.rest",
        "known_tables": ["copilot", "cloud.office365.management.viva"],
        "add_devo_fields": False,
        "collectors_out": "false",
    }
    output = output_of(folder, "devo_platform", config)

    assert isinstance(output, DevoSettings)
    assert output.wire == WireSettings(
        connections=2,
        connecting_retries=3,
        connecting_wait_first_s=1.0,
        connecting_wait_max_s=30.0,
        sending_timeout_s=7.0,
        sending_retries=4,
        sending_wait_first_s=3.0,
        sending_wait_max_s=40.0,
        retention_bytes=32 * 1024 * 1024,
        retention_s=20.0,
        line_bytes_max=65_536,
        idle_s=90.0,
        stats_period_s=60.0,
    )
    assert output.compression == CompressionSettings(threshold=-0.5, level=9, buffer_bytes=100_000)
    assert output.tags == TagSettings(
        fallback_tag="my.app.rest",
        known_tables=("cloud.office365.management.copilot", "cloud.office365.management.viva"),
    )
    assert output.tls.key_password is not None
    assert output.tls.key_password.reveal() == "opens it"
    assert (output.host, output.adds_devo_fields, output.sends_notices) == ("collector-7", False, False)


def test_globals_are_the_defaults_of_devos_outputs(folder: Path) -> None:
    """What an output sets of its own wins over them."""
    overall = {
        "sender_stats_period_in_sec": 120,
        "devo_sender_threshold_for_using_gzip_in_transport_layer": 0.5,
        "devo_sender_compression_level": 1,
        "devo_sender_compression_buffer_in_bytes": 19_500,
        "queue_max_size_in_mb": "2048",
        "id": 4711,
    }
    settings = settings_with(folder, "relay", DEVO | {"compression_level": 9}, globals=overall)
    (output,) = settings.outputs

    assert isinstance(output, DevoSettings)
    assert output.compression == CompressionSettings(threshold=0.5, level=9, buffer_bytes=19_500)
    assert output.wire.stats_period_s == settings.stats_period_s == 120.0
    assert (settings.queue_bytes_max, settings.job_id) == (2_048 * 1024 * 1024, "4711")
    assert settings.warnings == ()


@pytest.mark.parametrize(("level", "told"), [(1, False), (2, True), (6, True), (7, False), (None, False)])
def test_a_level_of_compression_that_has_no_difference_to_1_is_told(
    folder: Path, level: int | None, *, told: bool
) -> None:
    """Devo's levels 1 to 6 are one here; whoever sets one of them wants more than the quickest."""
    why = f"{level} is treated as 1; from 7 on lines are compressed harder, and slower"
    of_output = settings_with(folder, "devo_platform", DEVO | {"compression_level": level})
    overall = {"devo_sender_compression_level": level}
    of_globals = settings_with(folder, "devo_platform", DEVO, globals=overall)

    assert of_output.warnings == ((f"outputs.out.config.compression_level: {why}",) if told else ())
    assert of_globals.warnings == ((f"globals.devo_sender_compression_level: {why}",) if told else ())


@pytest.mark.parametrize("key", ["chain", "cert", "key"])
def test_devos_output_without_its_certificates_is_refused(folder: Path, key: str) -> None:
    """There is no way to Devo without them, and none that is not verified."""
    (line,) = mistakes_with(folder, "devo_platform", DEVO | {key: None})

    assert line == f"config.{key}: is missing; give the path of a PEM file"


@pytest.mark.parametrize("kind", ["TCP", "none", ""])
def test_devos_output_never_sends_unverified(folder: Path, kind: str) -> None:
    """Devo's SDK falls back to an unverified connection; here that is a mistake."""
    (line,) = mistakes_with(folder, "devo_platform", DEVO | {"type": kind})

    assert line.startswith(f'config.type: "{kind}" (text) would send records unencrypted')
    assert line.endswith("; give SSL, or remove the key")


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        (
            {"address": "https://eu.devo.io"},
            'config.address: "https://eu.devo.io" (text) is neither a host name',
        ),
        ({"address": EU + ":443"}, f'config.address: "{EU}:443" (text) is neither a host name nor an IP'),
        ({"port": 0}, "config.port: 0 (whole number) is out of range; give a whole number, 1 to 65,535"),
        (
            {"connecting_retries": 11},
            "config.connecting_retries: 11 (whole number) is out of range; give a",
        ),
        (
            {"compression_level": 10},
            "config.compression_level: 10 (whole number) is out of range; give a whole",
        ),
        (
            {"fallback_tag": "mine"},
            'config.fallback_tag: "mine" (text) is not a Devo tag; give a Devo tag of 2',
        ),
        ({"known_tables": ["a b"]}, 'config.known_tables[0]: "a b" (text) is not a Devo tag; give a list of'),
        ({"hostname": "a b"}, 'config.hostname: "a b" (text) has a space or a character that no host in a'),
        ({"sending_retry": 1}, 'config.sending_retry: unknown key; did you mean "sending_retries"?'),
        (
            {"key_password": 5},
            "config.key_password: *** (whole number) is of the wrong kind; give",
        ),
        (
            {"sender_concurrent_connections": 2, "concurrent_connections": 2},
            "config.sender_concurrent_connections: is given beside concurrent_connections; keep one of",
        ),
        (
            {"sender_concurrent_connections": 0},
            "config.sender_concurrent_connections: 0 (whole number) is out of range; give a whole number,",
        ),
    ],
)
def test_a_mistake_in_devos_output_names_its_key(folder: Path, changes: Document, mistake: str) -> None:
    """Under the name that the file has, whatever its other names are."""
    (line,) = mistakes_with(folder, "devo_platform", DEVO | changes)

    assert line.startswith(mistake)


def test_the_spellings_of_devos_collector_server_are_known(folder: Path) -> None:
    """Its files name the same options otherwise."""
    config = {"url": EU, "port": 443, "chain_loc": "chain.crt", "cert_loc": "me.crt", "key_loc": "me.key"}
    devos = {"sender_concurrent_connections": 3, "devo_sender_compression_level": 2, "location": None}

    assert output_of(folder, "devo_platform", config) == output_of(folder, "devo_platform", DEVO)
    output = output_of(folder, "devo_platform", config | devos)
    assert isinstance(output, DevoSettings)
    assert (output.wire.connections, output.compression.level) == (3, 2)


def test_a_spelling_keeps_its_name_in_every_mistake(folder: Path) -> None:
    """Also in those that were found before it was brought to its one name, and once only."""
    config = {key: value for key, value in DEVO.items() if key not in {"chain", "cert"}}

    assert mistakes_with(folder, "relay", config | {"chain_loc": "<chain>", "cert_loc": "none.crt"}) == [
        (
            f'config.cert_loc: "none.crt" (text) is not there; put it into {folder} or {folder}/certs or '
            f"{folder.parent}/certs, or give its whole path"
        ),
        'config.chain_loc: "<chain>" (text) is a placeholder; give a value or remove the key',
    ]


def test_another_address_than_devos_is_a_warning(folder: Path) -> None:
    """A relay of one's own, or a region that is new."""
    (warning,) = settings_with(folder, "devo_platform", DEVO | {"address": "relay.corp.example"}).warnings

    assert warning.startswith("outputs.out.config.address: relay.corp.example is none of Devo's own (")


def test_a_hostname_that_is_not_verified_is_a_loud_warning(folder: Path) -> None:
    """Some relays need it; nobody is to overlook it."""
    settings = settings_with(folder, "devo_platform", DEVO | {"verify_hostname": False})
    (output,) = settings.outputs
    (warning,) = settings.warnings

    assert isinstance(output, DevoSettings)
    assert not output.tls.verify_hostname
    assert warning.startswith("outputs.out.config.verify_hostname: UNSAFE: any server with a certificate of")


def test_devos_options_without_effect_are_named(folder: Path) -> None:
    """They are read, so that a file of Devo's works as it is."""
    config = DEVO | {"activate_final_queue": True, "generate_metrics": False}

    assert settings_with(folder, "devo_platform", config).warnings == (
        "outputs.out.config.activate_final_queue: has no effect in this version",
        "outputs.out.config.generate_metrics: has no effect in this version",
    )


# Its certificates.


@pytest.mark.parametrize("place", ["certs", "../certs"])
def test_certificates_are_found_where_devos_container_has_them(folder: Path, place: str) -> None:
    """The folder `certs`, in the configuration's folder or beside it."""
    config_folder = folder / "config"
    (config_folder / place).mkdir(parents=True)
    for name in ("chain.crt", "me.crt", "me.key"):
        (folder / name).rename(config_folder / place / name)
    output = output_of(config_folder, "devo_platform", DEVO)

    assert isinstance(output, DevoSettings)
    assert output.tls.key == (config_folder / place / "me.key").resolve()


def test_each_certificate_file_that_will_not_do_is_one_mistake(folder: Path) -> None:
    """Missing, no file, of the wrong kind: found before the first connection is tried."""
    (folder / "folder").mkdir()
    wrong = DEVO | {"chain": "folder", "cert": "me.key", "key": "~/me.key"}

    assert mistakes_with(folder, "devo_platform", wrong) == [
        'config.cert: "me.key" (text) holds no certificate in PEM; give the client\'s certificate',
        'config.chain: "folder" (text) is not a regular file',
        'config.key: "~/me.key" (text) starts with ~, which is not expanded here; write ${HOME}',
    ]
    assert mistakes_with(folder, "devo_platform", DEVO | {"key": "me.crt"}) == [
        'config.key: "me.crt" (text) holds no private key in PEM; give the key that belongs to cert'
    ]


def test_a_key_that_others_can_read_is_a_warning(folder: Path) -> None:
    """Mounted certificates often are, and the mode cannot always be changed; the cure is one command."""
    (folder / "me.key").chmod(0o644)

    assert settings_with(folder, "devo_platform", DEVO).warnings == (
        f"outputs.out.config.key: others can read this key; run: chmod 600 {folder}/me.key",
    )


# devo_http.


def test_devos_http_endpoint_has_its_documented_limits(folder: Path) -> None:
    """32 MB a request, compressed; the token is not shown."""
    settings = settings_with(folder, "devo_http", HTTP)
    (output,) = settings.outputs

    assert isinstance(output, DevoHttpSettings)
    assert (output.endpoint, output.domain, output.token.reveal()) == (
        "https://http-eu.devo.io",
        "acme",
        TOKEN,
    )
    assert (output.compresses, output.request_bytes_max, output.timeout_s) == (True, 32 * 1024 * 1024, 30.0)
    assert (output.adds_devo_fields, output.sends_notices) == (True, True)
    assert TOKEN not in repr(settings)


def test_a_token_may_come_from_a_file(folder: Path) -> None:
    """A file that only its owner may read, as for the client secret."""
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    config = HTTP | {"token": None, "token_file": "token"}
    output = output_of(folder, "devo_http", config)

    assert isinstance(output, DevoHttpSettings)
    assert output.token.reveal() == TOKEN

    (folder / "token").chmod(0o644)
    assert mistakes_with(folder, "devo_http", config) == [
        f'config.token_file: "token" (text) can be read by others (mode 0644); run: chmod 600 {folder}/token'
    ]


def test_a_token_is_neither_shown_nor_left_open(folder: Path) -> None:
    """A mistake hides it; a configuration that others can read is warned of."""
    path = folder / "config.yaml"
    path.write_text("")
    path.chmod(0o644)
    (line,) = mistakes_with(folder, "devo_http", HTTP | {"token": {TOKEN: 1}})
    _, warning = settings_with(folder, "devo_http", HTTP).warnings

    assert line.startswith(
        "config.token: an object is of the wrong kind; give the token in quotes, or ${NAME}"
    )
    assert warning == f"outputs.out.config.token: others can read this file; run: chmod 600 {path}"


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"endpoint": "http://http-eu.devo.io"}, "config.endpoint: "),
        (
            {"domain": "a/b"},
            'config.domain: "a/b" (text) has a character that does not belong there; give the',
        ),
        (
            {"token": None},
            "config.token: is missing; give the token in quotes, or ${NAME}, or the key token_file",
        ),
        (
            {"request_megabytes_max": 33},
            "config.request_megabytes_max: 33 (whole number) is out of range; give",
        ),
    ],
)
def test_a_mistake_in_devos_http_output_names_its_key(folder: Path, changes: Document, mistake: str) -> None:
    """The token goes nowhere but to an https endpoint."""
    (line,) = mistakes_with(folder, "devo_http", HTTP | changes)

    assert line.startswith(mistake)


# syslog.


@pytest.mark.parametrize(
    ("kind", "line_format", "is_devos"),
    [("syslog", "rfc5424", False), ("in_house_relay", "devo", True), ("sidecar", "devo", True)],
)
def test_a_syslog_output_writes_what_its_name_promises(
    folder: Path, kind: str, line_format: str, is_devos: bool
) -> None:
    """Devo's in-house relay reads the line that Devo itself reads."""
    output = output_of(folder, kind, {"address": "10.0.0.1", "port": 6514})

    assert output == SyslogSettings(
        name="out",
        address="10.0.0.1",
        port=6514,
        format=line_format,
        host=socket.gethostname(),
        adds_devo_fields=is_devos,
        sends_notices=is_devos,
    )


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

    assert isinstance(output, SyslogSettings)
    assert (output.transport, output.format, output.framing) == ("tls", "rfc3164", "octet-counting")
    assert (output.facility, output.severity, output.app_name) == (20, 3, "m365-{table}")
    assert output.tls == TlsSettings(folder / "chain.crt", folder / "me.crt", folder / "me.key")
    assert output.wire == WireSettings(retention_s=5.0)


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
    assert isinstance(output, SyslogSettings)
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


# Several.


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
