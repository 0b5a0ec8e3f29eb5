"""`network`: what it turns into, for the collector and for an input, and which mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from pydantic import SecretStr

from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.outputs.devo_http.spec import DevoHttpSection
from m365watch_testing.certificates import Authority
from settings_documents import PLACE, Document, filled_in, mistakes_of, settings_of

AT = "globals.network"
PROXY = {"proxy": "http://proxy.example:3128", "proxy_username": "user", "proxy_password": "p4ss:word"}
RESOLVED = ("http://proxy.example:3128", "user", SecretStr("p4ss:word"))


def document_with(network: object, **of_input: object) -> Document:
    """A document with `globals.network`, and `network` of its one input where there are keys for it."""
    document = filled_in(**({"network": of_input} if of_input else {}))
    document["globals"] = {"network": network}
    return document


def network_of(network: object, **of_input: object) -> NetworkSettings:
    """The tenant's network."""
    return settings_of(document_with(network, **of_input)).tenants[0].network


def proxy_of(network: NetworkSettings) -> tuple[object, ...]:
    return network.proxy, network.proxy_username, network.proxy_password


def test_left_out_the_environment_and_the_system_decide() -> None:
    """And TLS is 1.2 or newer all the same."""
    assert settings_of(filled_in()).tenants[0].network == UNSET_NETWORK
    assert UNSET_NETWORK.proxy is None
    assert UNSET_NETWORK.tls_minimum == "1.2"


def test_every_key_arrives(tmp_path: Path) -> None:
    """With its unit, and a path that starts at the file's folder."""
    bundle = Authority(tmp_path).chain
    given = {
        **PROXY,
        "no_proxy": "a.example, .B.example",
        "ca_bundle": bundle.name,
        "bind_address": ["10.0.0.7", "FD00:0::7"],
        "connect_timeout_in_seconds": "5",
        "read_timeout_in_seconds": 90,
        "tls_minimum": 1.3,
    }
    settings = settings_of(document_with(given), path=tmp_path / "c.json")

    assert (
        settings.network
        == settings.tenants[0].network
        == NetworkSettings(
            proxy=RESOLVED[0],
            proxy_username=RESOLVED[1],
            proxy_password=RESOLVED[2],
            no_proxy=("a.example", ".b.example"),
            ca_bundle=bundle,
            bind_address=("10.0.0.7", "fd00::7"),
            connect_timeout_in_seconds=5.0,
            read_timeout_in_seconds=90.0,
            tls_minimum="1.3",
        )
    )


def test_an_input_s_keys_win_one_by_one() -> None:
    """What it does not name is as it is for the whole collector."""
    network = network_of(PROXY | {"tls_minimum": "1.3"}, bind_address="10.0.0.7")

    assert (proxy_of(network), network.tls_minimum) == (RESOLVED, "1.3")
    assert network.bind_address == ("10.0.0.7",)


@guarantee(23)
def test_another_proxy_is_not_told_this_one_s_password() -> None:
    """User and password belong to the proxy that they stand beside."""
    other = network_of(PROXY, proxy="http://other.example:8080")
    own = network_of(PROXY, proxy="http://other.example:8080", proxy_username="else", proxy_password="pw")

    assert proxy_of(other) == ("http://other.example:8080", None, None)
    assert proxy_of(own) == ("http://other.example:8080", "else", SecretStr("pw"))


def test_none_goes_without_a_proxy_whatever_the_environment_says() -> None:
    """For one input, or for all."""
    direct = NetworkSettings(proxy="none")

    assert network_of(PROXY, proxy="none") == direct
    assert network_of({"proxy": "None"}) == direct


def test_only_an_output_that_speaks_http_gets_it() -> None:
    """A wire has a TLS and time-outs of its own."""
    document = document_with(PROXY) | {
        "outputs": {
            "http": {
                "type": "devo_http",
                "config": {"endpoint": "https://http-eu.devo.io", "domain": "acme", "token": "t0ken-t0ken"},
            },
            "console": {"type": "console"},
        }
    }
    [http, console] = settings_of(document).outputs

    assert isinstance(http, DevoHttpSection)
    assert proxy_of(http.http_route[1]) == RESOLVED
    assert console.http_route is None


@pytest.mark.parametrize(
    ("proxy", "url"),
    [
        ("proxy.example", "http://proxy.example:80"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("HTTPS://proxy.example/", "https://proxy.example:443"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("10.0.0.1:8080", "http://10.0.0.1:8080"),
    ],
)
def test_a_proxy_may_be_written_short(proxy: str, url: str) -> None:
    """As in HTTPS_PROXY."""
    assert network_of({"proxy": proxy}).proxy == url


def test_a_password_may_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """As every secret."""
    (tmp_path / "password").write_text("p4ss:word\n")
    (tmp_path / "password").chmod(0o600)
    base = {key: value for key, value in PROXY.items() if key != "proxy_password"}
    of_file = settings_of(document_with(base | {"proxy_password_file": "password"}), path=tmp_path / "c.json")
    of_variable = settings_of(
        document_with(base | {"proxy_password": "${PW}"}), environment={"PW": "p4ss:word"}
    )

    assert proxy_of(of_file.network) == proxy_of(of_variable.network) == RESOLVED


def test_commands_that_only_read_need_neither_password_nor_authorities() -> None:
    """`status` works in a shell without the collector's environment."""
    document = document_with(PROXY | {"proxy_password": "${NOT_THERE}", "ca_bundle": "/not/there.pem"})

    settings = parse_settings(document, path=PLACE, environment={}, for_reading=True)

    assert isinstance(settings, Settings)


IS_NO_PROXY = "is no proxy address; give http://host:port, https://host:port, or none, or remove the key"


@guarantee(23)
@pytest.mark.parametrize(
    ("network", "mistake"),
    [
        ({"proxy": "ftp://proxy.example"}, f".proxy: *** (text) {IS_NO_PROXY}"),
        ({"proxy": "http://proxy.example:0"}, f".proxy: *** (text) {IS_NO_PROXY}"),
        ({"proxy": "http://proxy.example/x"}, f".proxy: *** (text) {IS_NO_PROXY}"),
        ({"proxy": "http://[::1"}, f".proxy: *** (text) {IS_NO_PROXY}"),
        ({"proxy": "http://user:p4ss"}, f".proxy: *** (text) {IS_NO_PROXY}"),
        ({"proxy": "http://a b:1"}, f".proxy: *** (text) {IS_NO_PROXY}"),
        (
            {"proxy": "socks5://proxy.example:1080"},
            (
                ".proxy: *** (text) is a SOCKS proxy, which is not supported; "
                "give an HTTP proxy, http://host:port"
            ),
        ),
        (
            {"proxy": "http://user:p4ss@proxy.example:3128"},
            (
                ".proxy: *** (text) has a user name in it; give it as proxy_username, and proxy_password or "
                "its file"
            ),
        ),
        (
            {"proxy_username": "user"},
            ".proxy_username: is given without a proxy; give proxy beside it, or remove the key",
        ),
        (
            {"proxy": "none", "proxy_username": "user"},
            ".proxy_username: is given without a proxy; give proxy beside it, or remove the key",
        ),
        (
            {"proxy": "http://proxy.example", "proxy_password": "p4ss"},
            ".proxy_username: is missing; proxy_password needs it",
        ),
        (
            {"proxy": "http://proxy.example", "proxy_username": "a:b"},
            (
                '.proxy_username: "a:b" (text) has a colon, which no user name of a proxy has; give the user '
                "name at the proxy, or remove the key"
            ),
        ),
        (
            {"no_proxy": ["https://a.example"]},
            (
                ".no_proxy: a list has 'https://a.example' in it, which is no host; give names such as "
                ".example.com"
            ),
        ),
        (
            {"bind_address": "eth0"},
            (
                ".bind_address: \"eth0\" (text) has 'eth0' in it, which is no IP address; give an IP address "
                "of this machine, or a list of an IPv4 and an IPv6 address, or remove the key"
            ),
        ),
        (
            {"bind_address": ["10.0.0.1", "10.0.0.2"]},
            (
                ".bind_address: a list has two addresses of one kind; give one IPv4 and one IPv6 address at "
                "most"
            ),
        ),
        (
            {"tls_minimum": 1.1},
            (
                '.tls_minimum: "1.1" (text) is not supported by this version; give 1.2 or 1.3, or remove the '
                "key"
            ),
        ),
        (
            {"read_timeout_in_seconds": 0},
            (
                ".read_timeout_in_seconds: 0 (whole number) is out of range; give a number of seconds, 0.1 "
                "to 900, or remove the key"
            ),
        ),
        ({"proxi": "x"}, '.proxi: unknown key; did you mean "proxy"?'),
        ("p4ss", ": *** (text) is of the wrong kind; give an object of options, or remove the key"),
    ],
)
def test_each_mistake_is_one_line_without_a_password(network: object, mistake: str) -> None:
    """It names the key, what is wrong and what would be right."""
    assert mistakes_of(document_with(network)) == [f"{AT}{mistake}"]


def test_an_input_s_mistake_is_named_where_it_stands() -> None:
    """Its proxy has no user, and the user of the other one does not count for it."""
    document = document_with(PROXY, proxy="http://other.example:1", proxy_password="p4ss")

    assert mistakes_of(document) == [
        "inputs.office365.network.proxy_username: is missing; proxy_password needs it"
    ]


def bundle_of(folder: Path, kind: str) -> None:
    """What stands where `ca_bundle` points to."""
    path = folder / "ca"
    if kind == "folder without":
        path.mkdir()
        (path / "README").write_text("nothing here yet")
    elif kind == "folder with a broken one":
        path.mkdir()
        (path / "a.pem").write_bytes(Authority(folder).chain.read_bytes())
        (path / "b.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif kind == "key":
        path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    elif kind == "broken":
        path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate((8 << 20) + 1)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("missing", "is not there; put it into {folder}, or give its whole path"),
        ("key", "holds no certificate; give the authorities' certificates in PEM"),
        ("broken", "has a certificate that cannot be read; export it anew, in PEM"),
        ("large", "is larger than 8 MB, which no bundle needs"),
        ("folder without", "no file in it holds a certificate; give the authorities' certificates in PEM"),
        (
            "folder with a broken one",
            "has b.pem, which has a certificate that cannot be read; export it anew, in PEM",
        ),
    ],
)
def test_a_bundle_without_a_certificate_is_refused_at_the_start(tmp_path: Path, kind: str, why: str) -> None:
    """One clear line now is better than no connection later."""
    bundle_of(tmp_path, kind)

    assert mistakes_of(document_with({"ca_bundle": "ca"}), path=tmp_path / "c.json") == [
        f'{AT}.ca_bundle: "ca" (text) {why.format(folder=tmp_path)}'
    ]


def test_passwords_are_in_no_repr() -> None:
    """Settings may be logged whole."""
    settings: Any = settings_of(document_with(PROXY))

    assert "p4ss" not in repr(settings)


def test_a_password_that_others_can_read_gives_a_warning(tmp_path: Path) -> None:
    """As for every secret that is written into the file itself."""
    path = tmp_path / "c.json"
    path.write_text("{}")
    path.chmod(0o644)

    warnings = settings_of(document_with(PROXY), path=path).warnings

    assert f"{AT}.proxy_password: others can read this file; run: chmod 600 {path}" in warnings
