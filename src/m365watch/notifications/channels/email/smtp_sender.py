"""Notifications as mail over SMTP, in a thread of their own, and what the server's answers mean.

A connection's answers are bounded, and another thread can end it.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from m365watch.common.errors import NeedsOperator, NotificationsRefused, RetryLater, Unavailable
from m365watch.common.text import plain
from m365watch.http.tls import make_context
from m365watch.notifications.channels.email.mail_message import make_mail
from m365watch.notifications.channels.email.spec import EmailSection
from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_text import shortened
from m365watch.registry.channel_specs import Channel, Sent

TIMEOUT_S = 20.0
"""How long the server may take over one step."""
ANSWER_LINES_MAX = 100
"""Of one answer; what a server can do it says in some ten lines, each of which the library bounds."""
ANSWER_CHARACTERS_MAX = 160
"""What is repeated of an answer that says no."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class _Lines:
    """What comes from the server, of which one answer may have so many lines."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.left = 0

    def readline(self, size: int) -> bytes:
        if self.left == 0:
            raise _TooLong
        self.left -= 1
        line: bytes = self._source.readline(size)
        return line

    def close(self) -> None:
        self._source.close()


class _TooLong(Exception):
    """No OSError: the library would tell of a connection that was closed."""


class BoundedMail(smtplib.SMTP):
    """The library's, but that no answer goes on for ever."""

    file: Any

    def __init__(self, opened: list[BoundedMail], *given: Any, **named: Any) -> None:
        """Connected where a host is given; `opened` has it before, so that its end can be brought about."""
        self._is_given_up = False
        opened.append(self)
        super().__init__(*given, **named)

    def getreply(self) -> tuple[int, bytes]:
        """The code and the text of the next answer. Raises: SMTPException."""
        if self._is_given_up:
            self.close()
            raise smtplib.SMTPServerDisconnected("nobody waits for it")
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock.makefile("rb"))
        if self.file is not None:
            self.file.left = ANSWER_LINES_MAX
        try:
            return super().getreply()
        except _TooLong:
            self.close()
            raise smtplib.SMTPException(f"its answer has more than {ANSWER_LINES_MAX} lines") from None

    def hang_up(self) -> None:
        """End it from another thread: whoever waits for its server is told at once that it is gone."""
        # What is being connected just now looks at this before it reads.
        self._is_given_up = True
        with suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


class BoundedMailOverTls(BoundedMail, smtplib.SMTP_SSL):
    """The same, over TLS from the first byte."""


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """What `work` answers, done in a thread that no end of the process waits for.

    A mail server may take its time over every step, and who is cancelled does not wait for it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(settle_with: Callable[[], None]) -> None:
        if not done.done():
            settle_with()

    def run() -> None:
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            outcome = partial(done.set_exception, error)
        else:
            outcome = partial(done.set_result, answer)
        with suppress(RuntimeError):  # The loop is closed: nobody waits.
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="mail", daemon=True).start()
    return await done


class SmtpSender:
    """Sends each notification over a connection of its own; the server's 250 says that it has it."""

    at_once_max = 1

    def __init__(self, channel: Channel[EmailSection], *, collector: str) -> None:
        """Nothing is connected yet."""
        self._section = channel.section
        self._network = channel.network
        self._collector = collector
        self._where = f"notifications {channel.name}"

    async def open(self, *, last: int, position: str, newest: int) -> int:  # noqa: ARG002 - it keeps nothing
        """Nothing to make ready; what the target has cannot be told."""
        return last

    async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:  # noqa: ARG002
        """Send the mail. Raises: RetryLater, NotificationsRefused."""
        [notification] = notifications
        return await self._in_thread(lambda opened: self._send(notification, opened))

    async def check(self) -> str:
        """Connect, log in, and leave. Raises: RetryLater, NotificationsRefused."""
        return await self._in_thread(self._check)

    async def _in_thread(self, work: Callable[[list[BoundedMail]], _T]) -> _T:
        """What it answers; whoever gives up waiting leaves no connection behind, and so no thread."""
        opened: list[BoundedMail] = []
        try:
            return await in_daemon_thread(lambda: work(opened))
        except asyncio.CancelledError:
            for server in opened:
                server.hang_up()
            raise

    async def close(self) -> None:
        """Nothing is open between two mails."""

    def _send(self, notification: Notification, opened: list[BoundedMail]) -> Sent:
        sender, recipients = self._section.sender, tuple(dict.fromkeys(self._section.recipients))
        mail = make_mail(notification, sender=sender, recipients=recipients, collector=self._collector)
        try:
            with self._connected(opened) as server:
                refused = server.send_message(mail, sender, list(recipients))
        except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
            if 500 <= error.smtp_code < 600 and isinstance(error, smtplib.SMTPDataError):
                return Sent({0: f"SMTP {_said(error.smtp_code, error.smtp_error)}"})
            raise self._error(error) from None
        except (smtplib.SMTPException, OSError) as error:
            raise self._error(error) from None
        for address, (code, text) in refused.items():
            _log.warning(
                f"{self._where}: the server refuses {address} (SMTP {_said(code, text)}); "
                "the others have the mail; correct `recipients`"
            )
        return Sent()

    def _check(self, opened: list[BoundedMail]) -> str:
        try:
            with self._connected(opened) as server:
                code, text = server.noop()
                if code >= 400:
                    raise smtplib.SMTPResponseException(code, text)
        except (smtplib.SMTPException, OSError) as error:
            raise self._error(error) from None
        how = {"starttls": "over STARTTLS", "tls": "over TLS", "none": "in the clear"}[self._section.security]
        login = " and takes the login" if self._section.username else ""
        return f"{self._place} answers {how}{login}; no mail was sent"

    def _connected(self, opened: list[BoundedMail]) -> BoundedMail:
        """A connection that mail can be sent over. Raises: SMTPException, OSError."""
        section = self._section
        to: dict[str, Any] = {
            "host": section.host,
            "port": section.server_port,
            "local_hostname": socket.gethostname(),
            "timeout": TIMEOUT_S,
        }
        if section.security == "tls":
            server: BoundedMail = BoundedMailOverTls(opened, **to, context=self._context())
        else:
            server = BoundedMail(opened, **to)
        try:
            server.ehlo_or_helo_if_needed()
            if section.security == "starttls":
                server.starttls(context=self._context())
                server.ehlo()
            if section.username is not None and section.password is not None:
                self._sign_in(server, section.username, section.password.get_secret_value())
        except BaseException:
            with suppress(OSError):
                server.close()
            raise
        return server

    def _sign_in(self, server: smtplib.SMTP, username: str, password: str) -> None:
        try:
            server.login(username, password)
        except UnicodeEncodeError:
            what = f"{self._place} cannot be told username and password: a login over SMTP knows ASCII alone"
            fix = "give the account a name and a password of letters, digits and plain signs"
            raise self._refused(what, fix) from None
        except ValueError:  # what it asks for is no Base64
            raise smtplib.SMTPException("its answer to the login is not SMTP's") from None

    def _context(self) -> ssl.SSLContext:
        try:
            return make_context(self._network, speaks="")
        except ValueError as error:
            bundle = self._network.ca_bundle
            raise NotificationsRefused(
                f"the CA bundle {bundle} {str(error).partition('; ')[0]}",
                fix="name a file of certificates as globals.network.ca_bundle",
                where=self._where,
            ) from None

    def _error(self, error: smtplib.SMTPException | OSError) -> RetryLater | NeedsOperator:
        """What is to be done about it; no text of the server's is repeated but the reason that it gives."""
        place = self._place
        code, said = _answer_in(error)
        if isinstance(error, smtplib.SMTPAuthenticationError) and code >= 500:
            return self._refused(f"{place} refuses the login (SMTP {said})", "correct username and password")
        if isinstance(error, smtplib.SMTPNotSupportedError):
            fix = "set security to what the server offers, or remove username and password"
            return self._refused(f"{place} does not offer STARTTLS, or no login", fix)
        if isinstance(error, smtplib.SMTPRecipientsRefused) and code >= 500:
            return self._refused(f"{place} refuses every recipient (SMTP {said})", "correct recipients")
        if isinstance(error, smtplib.SMTPSenderRefused) and code >= 500:
            return self._refused(f"{place} refuses the sender (SMTP {said})", "correct sender, or log in")
        if isinstance(error, ssl.SSLCertVerificationError):
            fix = "correct host, or trust the authority by globals.network.ca_bundle"
            return self._refused(f"the certificate of {place} was not accepted: {error.verify_message}", fix)
        if isinstance(error, ssl.SSLError):
            fix = "set security to starttls for port 587, to tls for port 465"
            return self._refused(f"{place} does not speak TLS as expected", fix)
        if said:
            return Unavailable(f"{place} answered SMTP {said}", where=self._where)
        return Unavailable(f"{place}: {_reason(error)}", where=self._where)

    @property
    def _place(self) -> str:
        return f"{self._section.host}:{self._section.server_port}"

    def _refused(self, what: str, fix: str) -> NotificationsRefused:
        return NotificationsRefused(what, fix=fix, where=self._where)


def _answer_in(error: Exception) -> tuple[int, str]:
    """The server's code, and with it what it said; 0 and nothing where it said nothing."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = list(error.recipients.values())
        # One that may work later decides: then all are tried again.
        code, text = min(codes, key=lambda one: one[0]) if codes else (0, b"")
        return code, _said(code, text)
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code, _said(error.smtp_code, error.smtp_error)
    return 0, ""


def _said(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code}: {shortened(plain(words), ANSWER_CHARACTERS_MAX)}".rstrip(": ")


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the host's name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    if type(error) is smtplib.SMTPException:
        return shortened(plain(str(error)).rstrip("."), ANSWER_CHARACTERS_MAX)
    return (isinstance(error, OSError) and error.strerror) or "no connection"
