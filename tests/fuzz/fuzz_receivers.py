"""What those who are told of alerts answer: receivers of posts, and mail servers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from random import Random

from channels_configured import URL, channel_of, sender_of, slack
from multidict import CIMultiDict
from structlog.testing import capture_logs

from fuzz_contract import Attempt, Loop, Target, allowed, check_line
from fuzz_lakes import OURS, alert_of
from m365watch.http.client import Answer
from m365watch.http.settings import NetworkSettings
from m365watch.notifications.channels.email.smtp_sender import SmtpSender
from m365watch.notifications.notification import Notification, Standing, Tiding, make_notification
from m365watch.registry.channel_specs import Sent
from m365watch_testing.clock import FakeClock

_TARGETS = (
    channel_of("webhook", "soc", webhook_url=URL, signing_secret="made~up.secret-value", token="made~up.token"),
    slack("chat"),
    channel_of("teams", "chat", webhook_url=URL),
    channel_of("pagerduty", "pager", routing_key="made~up.routing-key", endpoint="https://events.example/v2/enqueue"),
)  # fmt: skip


def _notification() -> Notification:
    alert = alert_of(OURS, "a", "ann@contoso.example").alert
    return make_notification(Tiding.NEW, Standing(alert), thread=alert.id, made_at_ms=1)


def _check_sent(sent: Sent) -> None:
    for reason in sent.refused.values():
        check_line(reason)


class _Receiver:
    """A session over any network, whose receiver always answers the same."""

    def __init__(self) -> None:
        self.answer = Answer(200, CIMultiDict[str](), b"")

    def over(self, _: NetworkSettings) -> _Receiver:
        return self

    async def send(self, *_: object, **__: object) -> Answer:
        return self.answer


def _prepare_receivers(_: Path) -> Attempt:
    loop, receiver, told = Loop(), _Receiver(), _notification()
    senders = [sender_of(one, session=receiver, clock=FakeClock()) for one in _TARGETS]

    def attempt(given: bytes) -> None:
        receiver.answer = _answer_of(given)
        for sender in senders:
            with allowed():
                _check_sent(loop.run(sender.send(1, [told])))

    return attempt


def _answer_of(given: bytes) -> Answer:
    """Status, type and when to come again in the first line; the body in the others."""
    head, _, body = given.partition(b"\n")
    status, kind, after = [*head.split(b" ", 2), b"", b""][:3]
    number = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else 200
    headers = CIMultiDict({"Retry-After": after.decode("latin-1"), "Content-Type": kind.decode("latin-1")})
    return Answer(number, headers, body)


_ANSWERS = [
    b"200 text/plain \nok", b"202 application/json \n{}", b"400 text/plain \ninvalid_payload", b"404 text/plain \nno_service",
    b'400 application/json \n{"status":"invalid event","errors":["Length of \'routing_key\' is incorrect"]}',
    b"429 application/json 30\n{}", b"503 text/html 120\n<html>", b"413 text/plain \n\x1b[2J\r\nto\xff\xe2\x80\xaeo long", b"302 text/plain \n",
    b"403 text/plain; charset=utf-16 \n\xff\xfe", b"0 text/plain \n",
]  # fmt: skip


def grow_receivers_answer(random: Random) -> bytes:
    """Any status with any words."""
    status = random.choice(
        (100, 200, 204, 302, 400, 401, 403, 404, 408, 410, 413, 422, 425, 429, 500, 503, 999)
    )
    kind = random.choice(("text/plain", "application/json", "text/html", "", ";", "TEXT/PLAIN ; x=\x00"))
    after = random.choice(("", "30", "1e9", "-5", "9" * 400, "Wed, 18 Nov 2026 09:00:00 GMT", "²"))
    words = random.choice(
        ("routing_key", "\x1b]0;x\x07", "a\r\nb", "\u202e", "\U000e0041" * 300, "x" * 5_000, "")
    )
    return f"{status} {kind} {after}\n{words}".encode()


_PATIENCE_S = 0.02


class _MailServer:
    """Says the pieces of an input one after the other, each when it has heard something, and hangs up."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                connection.settimeout(_PATIENCE_S)
                for piece in self.pieces:
                    try:
                        connection.sendall(piece)
                        if not connection.recv(1 << 16):
                            break
                    except TimeoutError:
                        """It waits for more, as where a line is not at its end."""
                    except OSError:
                        break


def _prepare_mail(_: Path) -> Attempt:
    server, told = _MailServer(), _notification()
    senders = [
        SmtpSender(
            channel_of(
                "email", "soc", host="127.0.0.1", port=server.port, sender="m365@contoso.example",
                recipients=["a@contoso.example", "b@contoso.example"], security=security, username=name,
                password="made~up.secret-value",
            ),
            collector="c",
        )
        for security, name in (("none", None), ("none", "ann"), ("starttls", None))
    ]  # fmt: skip

    def attempt(given: bytes) -> None:
        server.pieces = given.split(b"\0")
        for sender in senders:
            with capture_logs() as said, allowed():
                _check_sent(sender._send(told, []))
            for line in said:
                check_line(str(line["event"]))
        with allowed():
            check_line(sender._check([]))

    return attempt


_HELLO, _EHLO = (
    b"220 mail.example ESMTP\r\n",
    b"250-mail.example\r\n250-SIZE 1000000\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n",
)
_TALKS = [
    b"\0".join((_HELLO, _EHLO, b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n", b"250 taken\r\n", b"221 bye\r\n")),
    b"\0".join((_HELLO, _EHLO, b"235 welcome\r\n", b"250 ok\r\n", b"550 5.1.1 no \x1b[2J such\r\n", b"250 ok\r\n", b"354 go on\r\n", b"554 spam\r\n")),
    b"\0".join((_HELLO, _EHLO, b"535 5.7.8 no\r\n", b"535 no\r\n")),
    b"\0".join((_HELLO, _EHLO, b"334 PDEyMz4=\r\n", b"235 ok\r\n", b"450 later\r\n")),
    b"\0".join((_HELLO, b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n", b"\x15\x03\x01\x00\x02\x02\x28")),
    b"\0".join((b"421 busy\r\n",)), b"\0".join((b"220 x\r\n", b"502 what\r\n", b"250 helo\r\n", b"550 no\r\n")), b"HTTP/1.1 400 Bad\r\n\r\n",
]  # fmt: skip


def grow_talk(random: Random) -> bytes:
    """A conversation whose codes are any, in any order."""
    words = (b" ok", b"-more", b"", b" \xff\xfe", b" a\x1b[2Jb", b" " + b"x" * 9_000, b"-", b" 5.7.1 no\r")
    pieces = [_HELLO, _EHLO] if random.random() < 0.8 else []
    for _ in range(random.randrange(8)):
        code = random.choice(
            (
                b"250",
                b"220",
                b"334",
                b"354",
                b"235",
                b"421",
                b"450",
                b"503",
                b"535",
                b"550",
                b"554",
                b"000",
                b"999",
                b"2",
            )
        )
        pieces.append(
            code + random.choice(words) + random.choice((b"\r\n", b"\r\n", b"\n", b"\r\n250 ok\r\n", b""))
        )
    return b"\0".join(pieces)


TARGETS = (
    Target("receivers", _prepare_receivers, lambda: _ANSWERS, grow_receivers_answer, (b"routing_key", b"routing key", b"text/plain ", b"application/json ")),
    Target("mail", _prepare_mail, lambda: _TALKS, grow_talk, (b"\0", b"250 ", b"250-", b"354 ", b"334 ", b"535 ", b"AUTH ", b"STARTTLS", b"\r\n"),
        input_bytes_max=32 << 10),
)  # fmt: skip
