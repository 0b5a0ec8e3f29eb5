"""Outputs that send over a network: Devo's keys with Devo's defaults, and nothing sent unverified."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from promises import guarantee

import wire_documents
from m365watch.http.settings import TlsSettings
from m365watch.outputs.devo.spec import DevoSection
from m365watch.outputs.devo_http.spec import DevoHttpSection
from settings_documents import Document
from wire_documents import DEVO, EU, mistakes_with, output_of, settings_with

folder = wire_documents.folder

TOKEN = "0123456789abcdef0123456789abcdef"
HTTP = {"endpoint": "https://http-eu.devo.io/", "domain": "acme", "token": TOKEN}


DEFAULTS = {
    "concurrent_connections": 1,
    "period_sender_stats_in_seconds": 300,
    "connecting_retries": 5,
    "connecting_initial_wait_in_seconds": 2,
    "connecting_max_wait_in_seconds": 60,
    "sending_timeout": 5,
    "sending_retries": 5,
    "sending_initial_wait_in_seconds": 2,
    "sending_max_wait_in_seconds": 60,
    "retention_bytes": 16 << 20,
    "retention_secs": 10,
    "line_bytes_max": 1 << 20,
    "idle_secs": 60,
    "threshold_for_using_gzip_in_transport_layer": 1.1,
    "compression_level": 6,
    "compression_buffer_in_bytes": 51_200,
    "fallback_tag": "cloud.office365.other",
    "known_tables": (),
}
"""Those of Devo's SDK, and this collector's own."""


def compression_of(output: DevoSection) -> tuple[float, int, int]:
    config = output.config
    threshold = config.threshold_for_using_gzip_in_transport_layer
    return threshold, config.compression_level, config.compression_buffer_in_bytes


@pytest.mark.parametrize("kind", ["devo_platform", "relay", "Devo-Platform"])
def test_devos_output_as_devo_documents_it_has_devos_defaults(folder: Path, kind: str) -> None:
    """The keys of Devo's own example, and nothing to add."""
    settings = settings_with(folder, kind, DEVO | {"port": "443"})

    [output] = settings.outputs
    assert isinstance(output, DevoSection)
    assert (output.name, output.place) == ("out", f"{EU}:443")
    assert output.secured_by == TlsSettings(
        chain=folder / "chain.crt", cert=folder / "me.crt", key=folder / "me.key"
    )
    assert output.host == socket.gethostname()
    assert (output.adds_devo_fields, output.sends_events) == (True, True)
    assert {key: getattr(output.config, key) for key in DEFAULTS} == DEFAULTS
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

    assert isinstance(output, DevoSection)
    found = output.config
    waits = (found.connecting_initial_wait_in_seconds, found.connecting_max_wait_in_seconds)
    assert (found.concurrent_connections, found.connecting_retries, waits) == (2, 3, (1, 30))
    waits = (found.sending_initial_wait_in_seconds, found.sending_max_wait_in_seconds)
    assert (found.sending_timeout, found.sending_retries, waits) == (7, 4, (3, 40))
    assert (found.retention_bytes, found.retention_secs, found.line_bytes_max) == (32 << 20, 20, 65_536)
    assert (found.idle_secs, found.period_sender_stats_in_seconds) == (90, 60)
    assert compression_of(output) == (-0.5, 9, 100_000)
    assert found.fallback_tag == "my.app.rest"
    assert found.known_tables == (
        "cloud.office365.management.copilot",
        "cloud.office365.management.viva",
    )
    assert output.config.tls.key_password is not None
    assert output.config.tls.key_password.reveal() == "opens it"
    assert (output.host, output.adds_devo_fields, output.sends_events) == ("collector-7", False, False)


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

    assert isinstance(output, DevoSection)
    assert compression_of(output) == (0.5, 9, 19_500)
    assert output.config.period_sender_stats_in_seconds == settings.stats_period_s == 120.0
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


@guarantee(23)
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
    assert isinstance(output, DevoSection)
    assert (output.config.concurrent_connections, output.config.compression_level) == (3, 2)


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

    assert isinstance(output, DevoSection)
    assert not output.config.tls.verify_hostname
    assert warning.startswith("outputs.out.config.verify_hostname: UNSAFE: any server with a certificate of")


def test_devos_options_without_effect_are_named(folder: Path) -> None:
    """They are read, so that a file of Devo's works as it is."""
    config = DEVO | {"activate_final_queue": True, "generate_metrics": False}

    assert settings_with(folder, "devo_platform", config).warnings == (
        "outputs.out.config.activate_final_queue: has no effect in this version",
        "outputs.out.config.generate_metrics: has no effect in this version",
    )


@pytest.mark.parametrize("place", ["certs", "../certs"])
def test_certificates_are_found_where_devos_container_has_them(folder: Path, place: str) -> None:
    """The folder `certs`, in the configuration's folder or beside it."""
    config_folder = folder / "config"
    (config_folder / place).mkdir(parents=True)
    for name in ("chain.crt", "me.crt", "me.key"):
        (folder / name).rename(config_folder / place / name)
    output = output_of(config_folder, "devo_platform", DEVO)

    assert isinstance(output, DevoSection)
    assert output.config.tls.key == (config_folder / place / "me.key").resolve()


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


def test_devos_http_endpoint_has_its_documented_limits(folder: Path) -> None:
    """32 MB a request, compressed; the token is not shown."""
    settings = settings_with(folder, "devo_http", HTTP)
    (output,) = settings.outputs

    assert isinstance(output, DevoHttpSection)
    config = output.config
    assert (config.endpoint, config.domain, config.token.get_secret_value()) == (
        "https://http-eu.devo.io",
        "acme",
        TOKEN,
    )
    assert (config.compression, config.request_megabytes_max, config.timeout_secs) == ("gzip", 32, 30)
    assert (output.adds_devo_fields, output.sends_events) == (True, True)
    assert TOKEN not in repr(settings)


def test_a_token_may_come_from_a_file(folder: Path) -> None:
    """A file that only its owner may read, as for the client secret."""
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    config = HTTP | {"token": None, "token_file": "token"}
    output = output_of(folder, "devo_http", config)

    assert isinstance(output, DevoHttpSection)
    assert output.config.token.get_secret_value() == TOKEN

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
