"""A real mail server on loopback: aiosmtpd, with or without TLS and login."""

from __future__ import annotations

import asyncio
import ssl
import threading
import warnings
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m365watch_testing.certificates import Authority

with warnings.catch_warnings():
    # It imports what newer Pythons have put away.
    warnings.simplefilter("ignore")
    from aiosmtpd import smtp

USER, PASSWORD = "watcher", "a made-up password"


@dataclass
class MailServer:
    """Listens while entered; `mails` are those that it took."""

    security: str = "none"
    folder: Path | None = None
    """Where its certificate lies, for TLS."""
    needs_login: bool = False
    refuses: dict[str, str] = field(default_factory=dict)
    """Answers to addresses of recipients, or to "DATA" for the mail itself."""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    port: int = 0
    authority: Authority | None = None

    def __enter__(self) -> Self:
        """The server, listening on a port of its own."""
        options: dict[str, Any] = {}
        context = self._context() if self.security != "none" else None
        if self.needs_login:
            options |= {"authenticator": self._authenticate, "auth_required": True}
            options["auth_require_tls"] = self.security == "starttls"
        if self.security == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        ready = threading.Event()
        secured = context if self.security == "tls" else None
        serving = partial(asyncio.run, self._serve(ready, secured, options))
        self._thread = threading.Thread(target=serving)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(
        self, ready: threading.Event, secured: ssl.SSLContext | None, options: dict[str, Any]
    ) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        conversation = partial(smtp.SMTP, self, loop=self._loop, hostname="localhost", **options)
        server = await self._loop.create_server(conversation, "127.0.0.1", 0, ssl=secured)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or say why not."""
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - the same
        """Take the mail, or say why not."""
        if "DATA" in self.refuses:
            return self.refuses["DATA"]
        mail = message_from_bytes(envelope.content, policy=SMTP)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _way: str, given: Any) -> Any:
        is_right = (given.login, given.password) == (USER.encode(), PASSWORD.encode())
        return smtp.AuthResult(success=is_right, handled=False)

    def _context(self) -> ssl.SSLContext:
        assert self.folder is not None
        self.authority = Authority(self.folder)
        files = self.authority.issue("localhost", names=["localhost", "127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        return context
