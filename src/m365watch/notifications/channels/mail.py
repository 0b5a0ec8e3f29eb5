"""Notifications as mail over SMTP, in a thread of their own, and what the server's answers mean."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from m365watch.common.errors import NeedsOperator, NotificationsRefused, RetryLater, Unavailable
from m365watch.common.text import plain
from m365watch.config.models.targets import EmailTarget
from m365watch.http.tls import make_context
from m365watch.notifications.channel_port import Sent
from m365watch.notifications.channels.mail_connection import TIMEOUT_S, BoundedMail, BoundedMailOverTls
from m365watch.notifications.channels.mail_mail import make_mail
from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_database import Outgoing
from m365watch.notifications.notification_text import shortened

ANSWER_CHARACTERS_MAX = 160

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


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


class MailSender:
    """Sends each notification over a connection of its own; the server's 250 says that it has it."""

    at_once_max = 1

    def __init__(self, target: EmailTarget, *, collector: str) -> None:
        """Nothing is connected yet."""
        self._target = target
        self._collector = collector
        self._where = f"notifications {target.name}"

    async def open(self, *, last: int, position: str, newest: int) -> int:  # noqa: ARG002 - it keeps nothing
        """Nothing to make ready; what the target has cannot be told."""
        return last

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send the mail. Raises: RetryLater, NotificationsRefused."""
        [notification] = outgoing.notifications
        return await self._in_thread(lambda opened: self._send(notification, opened))

    async def look(self) -> str:
        """Connect, log in, and leave. Raises: RetryLater, NotificationsRefused."""
        return await self._in_thread(self._look)

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
        target = self._target
        mail = make_mail(
            notification, sender=target.sender, recipients=target.recipients, collector=self._collector
        )
        try:
            with self._connected(opened) as server:
                refused = server.send_message(mail, target.sender, list(target.recipients))
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

    def _look(self, opened: list[BoundedMail]) -> str:
        target = self._target
        try:
            with self._connected(opened) as server:
                code, text = server.noop()
                if code >= 400:
                    raise smtplib.SMTPResponseException(code, text)
        except (smtplib.SMTPException, OSError) as error:
            raise self._error(error) from None
        how = {"starttls": "over STARTTLS", "tls": "over TLS", "none": "in the clear"}[target.security]
        login = " and takes the login" if target.username else ""
        return f"{target.host}:{target.port} answers {how}{login}; no mail was sent"

    def _connected(self, opened: list[BoundedMail]) -> BoundedMail:
        """A connection that mail can be sent over. Raises: SMTPException, OSError."""
        target = self._target
        to: dict[str, Any] = {
            "host": target.host,
            "port": target.port,
            "local_hostname": socket.gethostname(),
            "timeout": TIMEOUT_S,
        }
        if target.security == "tls":
            server: BoundedMail = BoundedMailOverTls(opened, **to, context=self._context())
        else:
            server = BoundedMail(opened, **to)
        try:
            server.ehlo_or_helo_if_needed()
            if target.security == "starttls":
                server.starttls(context=self._context())
                server.ehlo()
            if target.username and target.password is not None:
                self._sign_in(server, target.username, target.password.reveal())
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
            return make_context(self._target.network, speaks="")
        except ValueError as error:
            bundle = self._target.network.ca_bundle
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
        return f"{self._target.host}:{self._target.port}"

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
