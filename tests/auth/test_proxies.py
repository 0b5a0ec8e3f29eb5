from __future__ import annotations

from collections.abc import Iterator

import pytest

from m365watch.common.errors import SettingsRefused
from m365watch.http.proxies import check_proxies, proxy_for
from m365watch.http.settings import UNSET_NETWORK


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


def test_without_a_setting_every_host_is_reached_directly() -> None:
    """No proxy is guessed."""
    assert proxy_for("https", "manage.office.com") is None


def test_the_proxy_of_the_scheme_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY is for https."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")

    found = proxy_for("https", "manage.office.com")

    assert found is not None
    assert (str(found.url), found.headers) == ("http://proxy.example:3128", {})
    assert proxy_for("http", "manage.office.com") is None


def test_the_proxy_s_password_goes_into_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no part of the address, which errors may name."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy-user:p%40ss@proxy.example:3128")

    found = proxy_for("https", "manage.office.com")

    assert found is not None
    assert str(found.url) == "http://proxy.example:3128"
    assert found.headers == {"Proxy-Authorization": "Basic cHJveHktdXNlcjpwQHNz"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "manage.office.com"])
def test_loopback_and_excepted_hosts_are_reached_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """The demo works behind a proxy, and NO_PROXY is honoured."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".office.com")

    assert proxy_for("http", host) is None


MALFORMED = "HTTPS_PROXY: what it holds is not a proxy address"
SOCKS = "HTTPS_PROXY: socks proxies are not supported"


@pytest.mark.parametrize(
    ("named", "mistake"),
    [
        ("http://proxy.example:notaport", MALFORMED),
        ("http://[::1", MALFORMED),
        ("http://", MALFORMED),
        ("http://:8080", MALFORMED),
        ("http://proxy.example:0", MALFORMED),
        ("http://proxy.example:99999", MALFORMED),
        ("http://proxy example:3128", MALFORMED),
        ("ftp://proxy.example:21", MALFORMED),
        ("http://proxy-user:p@ss/word@proxy.example:notaport", MALFORMED),
        ("http://proxy-user:p#ss@proxy.example:3128", MALFORMED),
        ("proxy-user:p@:ss", MALFORMED),
        ("http://proxy-user:p%40ss", MALFORMED),
        ("socks5://proxy-user:p@ss@proxy.example:1080", SOCKS),
        ("SOCKS5H://proxy.example:1080", SOCKS),
    ],
)
def test_what_is_no_proxy_is_refused_without_its_words(
    monkeypatch: pytest.MonkeyPatch, named: str, mistake: str
) -> None:
    """It is a mistake of the environment, not a defect; a password may stand anywhere in it."""
    monkeypatch.setenv("HTTPS_PROXY", named)

    with pytest.raises(SettingsRefused) as refused:
        proxy_for("https", "manage.office.com")

    assert str(refused.value) == f"{mistake}; give http://host:port"


def test_only_a_proxy_that_would_be_used_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant on this machine is reached whatever the environment says; a variable is named once."""
    monkeypatch.setenv("HTTPS_PROXY", "http://[::1")

    check_proxies([("https://127.0.0.1:9", UNSET_NETWORK), ("http://login.example", UNSET_NETWORK)])
    with pytest.raises(SettingsRefused) as refused:
        check_proxies([(f"https://{host}.example", UNSET_NETWORK) for host in ("login", "manage")])

    assert refused.value.mistakes == [MALFORMED]
