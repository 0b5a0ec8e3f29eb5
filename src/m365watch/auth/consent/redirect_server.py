"""The page that the administrator's browser shows at the end: plain, without a script, without a secret."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from typing import NamedTuple

import httptools

from m365watch.auth.consent.authorization_request import (
    LOOPBACK_HOSTS,
    ConsentAttempt,
    ForeignAnswer,
    Redirect,
    read_redirect,
)
from m365watch.common.errors import CollectorError, ConsentRefused, NeedsOperator
from m365watch.common.model import TenantId
from m365watch.common.urls import split_url
from m365watch.http.bounded_listener import Limits, Listener, reading

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem;"
    "color:#1b1f24;background:#fff}h1{font-size:1.4rem}p{overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#16191d}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Connection": "close",
}
"""Nothing is loaded, nothing is sent on, nothing is kept, and no other page shows it in a frame."""


class Page(NamedTuple):
    """One answer to the browser."""

    status: int
    title: str
    lines: Sequence[str] = ()

    def render(self) -> bytes:
        """The page as HTML; whatever is in title and lines is text in it."""
        paragraphs = "".join(f"<p>{escape(line)}</p>" for line in self.lines)
        title = escape(self.title)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{paragraphs}</body></html>"
        ).encode()


LOOPBACK = "127.0.0.1"
END_S = 10.0
"""How long the browsers that asked may take to get their pages."""

Finish = Callable[[Redirect], Awaitable[TenantId]]
"""Finds out which tenant has consented; may raise CollectorError."""

_FOREIGN = Page(
    400,
    "This answer is not ours",
    ("It does not belong to the question that is open here. Open the address that the terminal shows.",),
)
_NOTHING = Page(404, "Nothing is here")
_USED = Page(410, "This answer was used already", ("See the terminal for how it went.",))
_WRONG_METHOD = Page(405, "Only GET is taken here")
_WRONG_HOST = Page(421, "This place is not known by that name")
_BROKEN = Page(500, "Something went wrong", ("See the terminal for what it was.",))
_BAD = Page(400, "This is no request that can be read")


@dataclass
class _Request:
    """A request's head, as httptools tells of it."""

    target: str = ""
    host: str = ""
    hosts: int = 0
    method: str = ""

    def on_url(self, url: bytes) -> None:
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self.host, self.hosts = value.decode("latin-1"), self.hosts + 1


def listen_on_loopback(port: int) -> socket.socket:
    """A socket that listens; port 0 picks a free one.

    Raises: NeedsOperator: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or "no such port"
        what = f"port {port} of {LOOPBACK} cannot be had: {reason}"
        raise NeedsOperator(
            what, fix="choose another with --port, and register it on the application"
        ) from None
    return listener


@dataclass
class RedirectServer:
    """Waits for the answer to one attempt."""

    attempt: ConsentAttempt
    finish: Finish
    on_foreign: Callable[[], None]
    """Called for each answer that is not to our question."""
    _redirect: asyncio.Future[Redirect] = field(init=False)
    _verdict: asyncio.Future[Page] = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(init=False, default_factory=set)

    async def wait(self, listener: socket.socket, *, timeout_s: float) -> TenantId:
        """The tenant that has consented; `listener` is closed at the end.

        Raises: ConsentRefused: the answer says no, or none has come in `timeout_s`; what `finish` raises.
        """
        loop = asyncio.get_running_loop()
        self._redirect, self._verdict = loop.create_future(), loop.create_future()
        server = await Listener("consent", Limits()).serve(reading(self._connected), sock=listener)
        page = _BROKEN
        try:
            async with asyncio.timeout(timeout_s):
                redirect = await asyncio.shield(self._redirect)
            tenant = await self.finish(redirect)
            page = Page(200, "Consent received", (f"Tenant {tenant}.", "Go back to the terminal."))
        except TimeoutError:
            raise ConsentRefused(
                f"no answer has come in {timeout_s:g} s",
                fix="start the command again and open the address that it prints, or give more --timeout",
                where="consent",
            ) from None
        except CollectorError as error:
            page = _page_of(error)
            raise
        finally:
            self._verdict.set_result(page)
            server.close()
            await self._end()
        return tenant

    async def _end(self) -> None:
        """Let the browsers that asked have their pages; who asked nothing is not waited for."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        with suppress(OSError):
            try:
                head = await _read_head(reader)
                if head is None:
                    return
                if task is not None:
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                request = _parse_head(head)
                page = _BAD if request is None else await self._answer(request)
                writer.write(_response(page))
                await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async def _answer(self, request: _Request) -> Page:
        path, _, query = request.target.partition("?")
        here = split_url(self.attempt.redirect_uri)
        name, _, port = request.host.partition(":")
        if name not in LOOPBACK_HOSTS or (port or "80") != str(here.port or 80):
            return _WRONG_HOST
        if path != (here.path or "/"):
            return _NOTHING
        if request.method != "GET":
            return _WRONG_METHOD
        return await self._answer_redirect(query)

    async def _answer_redirect(self, query: str) -> Page:
        if self._redirect.done():
            return _USED
        try:
            self._redirect.set_result(read_redirect(query, self.attempt))
        except ForeignAnswer:
            self.on_foreign()
            return _FOREIGN
        except CollectorError as error:
            self._redirect.set_exception(error)
        return await asyncio.shield(self._verdict)


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    """What a connection asks, to be answered even where it is cut; None where it asks nothing."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as cut:
        return cut.partial or None


def _parse_head(head: bytes) -> _Request | None:
    request = _Request()
    parser = httptools.HttpRequestParser(request)
    try:
        parser.feed_data(head)
        request.method = parser.get_method().decode("latin-1")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return request if request.hosts == 1 and request.target.startswith("/") else None


def _page_of(error: CollectorError) -> Page:
    lines = [error.what]
    if isinstance(error, NeedsOperator):
        lines.append(f"What to do: {error.fix}.")
    return Page(400, "No consent", lines)


def _response(page: Page) -> bytes:
    body = page.render()
    reason = HTTPStatus(page.status).phrase
    lines = {**HEADERS, "Content-Length": str(len(body))}
    if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines["Allow"] = "GET"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {page.status} {reason}\r\n{head}\r\n".encode() + body
