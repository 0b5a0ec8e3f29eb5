"""How a request is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from yarl import URL

from m365watch import __version__
from m365watch.http.aiohttp_transport import Origin
from m365watch.http.proxies import proxy_for


@pytest.fixture(autouse=True)
def _fresh_proxies() -> Iterator[None]:
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


def written(
    url: str, *, headers: dict[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> bytes:
    address = URL(url, encoded=True)
    return Origin(address).request(method, address, headers=headers or {}, body=body)


def test_a_request_is_what_it_always_was() -> None:
    """Byte for byte; the address as it is."""
    assert written("https://host.example/a$b%2Fc?x=1:2", headers={"Authorization": "Bearer t"}) == (
        b"GET /a$b%2Fc?x=1:2 HTTP/1.1\r\n"
        b"Host: host.example\r\n"
        b"Accept: application/json\r\n"
        b"Accept-Encoding: gzip\r\n"
        b"User-Agent: m365watch/" + __version__.encode() + b"\r\n"
        b"Authorization: Bearer t\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://host.example", "host.example"),
        ("http://host.example:80/", "host.example"),
        ("https://host.example:443/", "host.example"),
        ("https://host.example:80/", "host.example:80"),
        ("http://host.example.:8080/", "host.example:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://[::1]/", "[::1]"),
    ],
)
def test_the_host_names_a_port_that_is_not_the_usual(url: str, host: str) -> None:
    """And brackets around an IPv6 address."""
    assert f"\r\nHost: {host}\r\n".encode() in written(url)


def test_an_address_without_a_path_is_that_of_the_root() -> None:
    """A target is never empty."""
    assert written("http://host.example").startswith(b"GET / HTTP/1.1\r\n")
    assert written("http://host.example?x=1").startswith(b"GET /?x=1 HTTP/1.1\r\n")


def test_a_caller_s_header_replaces_our_own() -> None:
    """Whatever its case."""
    request = written("http://host.example/", headers={"accept": "text/plain"})

    assert b"accept: text/plain\r\n" in request
    assert b"Accept: " not in request


def test_other_headers_are_not_those_of_the_request_before() -> None:
    """What was written is kept for the same headers only, even where the caller changes his."""
    url = URL("http://host.example/")
    origin = Origin(url)
    headers = {"Authorization": "Bearer a"}
    origin.request("GET", url, headers=headers, body=None)
    headers["Authorization"] = "Bearer b"

    assert b"Bearer b" in origin.request("GET", url, headers=headers, body=None)
    assert b"Bearer" not in origin.request("GET", url, headers={}, body=None)


@pytest.mark.parametrize("body", [b"", b"a=b"])
def test_a_body_goes_with_its_length(body: bytes) -> None:
    """Even an empty one."""
    request = written("http://host.example/", method="POST", body=body)

    assert request.endswith(b"\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.mark.parametrize(
    ("url", "headers", "method"),
    [
        ("http://host.example/a\r\nX: y", {}, "GET"),
        ("http://host.example/a b", {}, "GET"),
        ("http://host.example/a?\x00", {}, "GET"),
        ("http://host.example/\u00e9", {}, "GET"),
        ("http://host.example/", {"X": "a\r\nY: b"}, "GET"),
        ("http://host.example/", {"X": "a\nY: b"}, "GET"),
        ("http://host.example/", {"X": "a\rY: b"}, "GET"),
        ("http://host.example/", {"X\rY": "b"}, "GET"),
        ("http://host.example/a\rX: y", {}, "GET"),
        ("http://host.example/", {"X": "a\x00"}, "GET"),
        ("http://host.example/", {"X": "a\x7f"}, "GET"),
        ("http://host.example/", {"X: a\r\nY": "b"}, "GET"),
        ("http://host.example/", {"X Y": "b"}, "GET"),
        ("http://host.example/", {"": "b"}, "GET"),
        ("http://host.example/", {}, "GET / HTTP/1.1\r\nX:"),
        ("http://host.example/", {}, "get"),
    ],
)
def test_nothing_can_begin_a_line_of_its_own(url: str, headers: dict[str, str], method: str) -> None:
    """Neither an address nor a header; and the error does not say what was in it."""
    with pytest.raises(ValueError, match="a character that does not belong there"):
        written(url, headers=headers, method=method)


def test_a_proxy_is_asked_for_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the clear; its password is a header of its own."""
    monkeypatch.setenv("http_proxy", "http://a:b@proxy.example:3128")
    request = written("http://host.example:8080/x?y=z")

    assert request.startswith(b"GET http://host.example:8080/x?y=z HTTP/1.1\r\nHost: host.example:8080\r\n")
    assert b"\r\nProxy-Authorization: Basic YTpi\r\n" in request


def test_the_proxy_s_password_does_not_reach_a_host_in_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the proxy sees the tunnel alone."""
    monkeypatch.setenv("https_proxy", "http://a:b@proxy.example:3128")
    request = written("https://host.example/x")

    assert request.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"Proxy-" not in request
