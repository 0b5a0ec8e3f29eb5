"""The place that a browser comes back to: hostile requests get a page and nothing else."""

from __future__ import annotations

import asyncio
import html
import re
import socket
from collections.abc import Callable, Coroutine
from urllib.parse import urlencode

import pytest
from patience import PATIENCE_S
from promises import guarantee

from m365watch.auth.consent.authorization_request import ConsentAttempt, ConsentForm, Redirect
from m365watch.auth.consent.redirect_server import RedirectServer, listen_on_loopback
from m365watch.common.errors import ConsentRefused, CredentialsRefused, NeedsOperator
from m365watch.common.model import TenantId
from m365watch.config.models.clouds import CLOUDS

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
YES = urlencode({"tenant": TENANT, "admin_consent": "True", "state": "right"})
Browse = Callable[["Place"], Coroutine[None, None, None]]


class Place:
    """A server that waits, and a browser for it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pages: list[str] = []
        self.foreign = 0
        self.finished: list[Redirect] = []
        self.error: Exception | None = None

    async def send(self, head: str) -> str:
        """The whole answer to the bytes of `head`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode())
        page = (await reader.read()).decode()
        writer.close()
        self.pages.append(page)
        return page

    async def get(self, target: str, *, host: str = "", method: str = "GET") -> str:
        return await self.send(
            f"{method} {target} HTTP/1.1\r\nHost: {host or f'localhost:{self.port}'}\r\n\r\n"
        )

    async def finish(self, redirect: Redirect) -> TenantId:
        self.finished.append(redirect)
        if self.error is not None:
            raise self.error
        return TenantId(redirect.tenant)


def serving(
    browse: Browse, *, error: Exception | None = None, timeout_s: float = PATIENCE_S
) -> tuple[object, Place]:
    """What a wait ends with while `browse` goes on, and what went on."""

    async def main() -> tuple[object, Place]:
        with listen_on_loopback(0) as listener:
            place = Place(listener.getsockname()[1])
            place.error = error
            uri = f"http://localhost:{place.port}/consent"
            attempt = ConsentAttempt(
                ConsentForm.ADMIN, CLOUDS["worldwide"], "x", redirect_uri=uri, state="right"
            )

            def count_foreign() -> None:
                place.foreign += 1

            server = RedirectServer(attempt, place.finish, on_foreign=count_foreign)
            waiting = asyncio.create_task(server.wait(listener, timeout_s=timeout_s))
            browsing = asyncio.create_task(browse(place))
            ended = (await asyncio.gather(waiting, return_exceptions=True))[0]
            await browsing
            return ended, place

    return asyncio.run(main())


async def say_yes(place: Place) -> None:
    await place.get(f"/consent?{YES}")


def status_of(page: str) -> int:
    return int(page.split(" ", 2)[1])


def test_one_good_answer_ends_the_waiting() -> None:
    """The page names the tenant, and no secret of the question."""
    ended, place = serving(say_yes)

    assert ended == TENANT
    assert place.finished == [Redirect(TENANT)]
    (page,) = place.pages
    assert status_of(page) == 200
    assert TENANT in page
    assert "right" not in page


def test_no_page_can_load_send_or_be_framed() -> None:
    """The policy allows the one style that is in the page, and nothing else."""
    _, place = serving(say_yes)

    (page,) = place.pages
    head, _, body = page.partition("\r\n\r\n")
    assert "default-src 'none'; style-src 'sha256-" in head
    assert "frame-ancestors 'none'" in head
    assert {"X-Content-Type-Options: nosniff", "Cache-Control: no-store", "Referrer-Policy: no-referrer"} <= {
        *head.split("\r\n")
    }
    assert not re.search(r"<script|<img|<form|<link|<a |href=|src=", body)
    assert f"Content-Length: {len(body.encode())}" in head


@guarantee(25)
def test_what_is_not_our_answer_does_nothing_and_the_waiting_goes_on() -> None:
    """Other paths, methods, hosts, states, and what is no HTTP at all."""

    async def browse(place: Place) -> None:
        await place.get("/favicon.ico")
        await place.get(f"/consent/?{YES}")
        await place.get(f"/consent?{YES}", method="POST")
        await place.get(f"/consent?{YES}", host="evil.example")
        await place.get(f"/consent?{YES}", host=f"localhost.evil.example:{place.port}")
        await place.get(f"/consent?{YES.replace('right', 'wrong')}")
        await place.get("/consent?error=access_denied")
        await place.get("/consent")
        await place.send("\x16\x03\x01 no http\r\n\r\n")
        await place.send(f"GET /consent?{YES} HTTP/1.1\r\n\r\n")
        await place.get(f"http://localhost/consent?{YES}")
        await place.send(f"GET /{'x' * 70_000} HTTP/1.1\r\n\r\n")
        assert place.finished == []
        await say_yes(place)

    ended, place = serving(browse)

    assert ended == TENANT
    assert [status_of(page) for page in place.pages] == [
        *(404, 404, 405, 421, 421, 400, 400, 400, 400, 400, 400, 431),
        200,
    ]
    assert place.foreign == 3
    assert not [page for page in place.pages if "right" in page]


def test_whoever_wants_another_protocol_gets_a_page() -> None:
    """Found by the fuzzer: an upgrade ended the connection without a page, and with a traceback."""

    async def browse(place: Place) -> None:
        upgrade = f"Host: localhost:{place.port}\r\nConnection: Upgrade\r\nUpgrade: websocket"
        await place.send(f"GET /consent HTTP/1.1\r\n{upgrade}\r\n\r\n")
        await place.get(f"/consent?{YES}")

    tenant, place = serving(browse)

    assert tenant == TENANT
    assert place.pages[0].startswith("HTTP/1.1 400 ")


def test_a_no_ends_the_waiting_with_its_cure_on_the_page() -> None:
    """What a stranger may have written is text in the page, never markup."""

    async def browse(place: Place) -> None:
        said = {"error": "access_denied", "error_description": "<img src=x onerror=alert(1)>'\"&"}
        await place.get(f"/consent?{urlencode({**said, 'state': 'right'})}")

    ended, place = serving(browse)

    assert isinstance(ended, ConsentRefused)
    (page,) = place.pages
    assert status_of(page) == 400
    assert "<img" not in page
    assert "<img src=x onerror=alert(1)>" in html.unescape(page)
    assert ended.fix in html.unescape(page)


def test_what_goes_wrong_behind_is_told_on_the_page_too() -> None:
    """Who consented sees that it did not help, and why."""
    error = CredentialsRefused("the client secret has expired", fix="make a new one", where="consent")

    ended, place = serving(say_yes, error=error)

    assert ended is error
    assert "the client secret has expired" in place.pages[0]
    assert "make a new one" in place.pages[0]


def test_an_answer_is_good_once() -> None:
    """A second look at the same address changes nothing."""

    async def browse(place: Place) -> None:
        first, second = (asyncio.create_task(place.get(f"/consent?{YES}")) for _ in range(2))
        await asyncio.gather(first, second)

    ended, place = serving(browse)

    assert ended == TENANT
    assert len(place.finished) == 1
    assert sorted(map(status_of, place.pages)) == [200, 410]


def test_a_browser_that_holds_a_connection_open_holds_nothing_up() -> None:
    """Browsers open some ahead."""

    async def browse(place: Place) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", place.port)
        await say_yes(place)
        writer.close()

    async def main() -> object:
        async with asyncio.timeout(PATIENCE_S):
            return (await asyncio.to_thread(serving, browse))[0]

    assert asyncio.run(main()) == TENANT


def test_nobody_is_waited_for_for_ever() -> None:
    """The line says how long it was, and what to do."""

    async def browse(place: Place) -> None:
        await place.get("/consent?state=wrong")

    ended, _ = serving(browse, timeout_s=1.0)

    assert isinstance(ended, ConsentRefused)
    assert ended.what == "no answer has come in 1 s"
    assert "--timeout" in ended.fix


def test_an_error_that_nobody_foresaw_is_not_swallowed() -> None:
    """It ends the command, and the browser gets a page without a word of it."""
    ended, place = serving(say_yes, error=ZeroDivisionError("secret detail"))

    assert isinstance(ended, ZeroDivisionError)
    assert status_of(place.pages[0]) == 500
    assert "secret detail" not in place.pages[0]


def test_only_this_machine_can_reach_it() -> None:
    """Loopback, not every address."""
    with listen_on_loopback(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_said() -> None:
    """One line, which names the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(NeedsOperator, match=f"port {port} of 127.0.0.1 cannot be had"):
            listen_on_loopback(port)
