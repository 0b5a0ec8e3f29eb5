from __future__ import annotations

from collections.abc import Iterator

import pytest

from m365watch.entra.proxies import proxy_for


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
