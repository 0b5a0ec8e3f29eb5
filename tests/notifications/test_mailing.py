"""Mail to a real server on loopback: over STARTTLS, over TLS, with login, and what its answers mean."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from channels_configured import channel_of, sender_of
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.clock import SystemClock
from m365watch.common.errors import NotificationsRefused, Unavailable
from m365watch.http.settings import NetworkSettings
from m365watch.registry.channel_specs import Channel, Sent
from mail_server import PASSWORD, USER, MailServer
from notify_scene import make_alert, make_hostile, new_of

SOC, DUTY = "soc@contoso.example", "duty@contoso.example"


def target_of(server: MailServer, *, trusts: bool = True, **changes: object) -> Channel[Any]:
    """The target for that server, which trusts its authority."""
    chain = server.authority.chain if trusts and server.authority is not None else None
    keys: dict[str, object] = {
        "host": "127.0.0.1",
        "port": server.port,
        "sender": "alerts@contoso.example",
        "recipients": [SOC, DUTY],
        "security": server.security,
    }
    if server.needs_login:
        keys |= {"username": USER, "password": PASSWORD}
    return channel_of("email", "mail", network=NetworkSettings(ca_bundle=chain), **keys | changes)


def target_at(listening: socket.socket, **changes: object) -> Channel[Any]:
    """The target for whatever listens there."""
    port = listening.getsockname()[1]
    keys = {"host": "127.0.0.1", "port": port, "sender": "a@b.example", "recipients": SOC, "security": "none"}
    return channel_of("email", "mail", **keys | changes)


def send(target: Channel[Any], *, hostile: bool = False) -> Sent:
    notification = new_of(make_hostile() if hostile else make_alert())
    return asyncio.run(sender_of(target, collector="soc-1").send(1, [notification]))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_arrives_over_verified_tls_with_a_login(security: str, tmp_path: Path) -> None:
    """Whole, at every recipient, from the sender that was named."""
    with MailServer(security, tmp_path, needs_login=security == "starttls") as server:
        sent = send(target_of(server))

    [mail] = server.mails
    assert sent == Sent()
    assert server.recipients == [[SOC, DUTY]]
    assert mail["Subject"] == "[HIGH] Mailbox forwards to an external address (ann@contoso.example)"
    assert mail.get_content_type() == "multipart/alternative"


@guarantee(41)
def test_no_hostile_value_adds_a_recipient_or_a_header() -> None:
    """As the server reads the mail, not as we wrote it."""
    with MailServer() as server:
        send(target_of(server), hostile=True)

    [mail] = server.mails
    assert server.recipients == [[SOC, DUTY]]
    assert "Bcc" not in mail
    assert set(mail.keys()) == {
        *("Subject", "From", "To", "Date", "Message-ID", "References", "Auto-Submitted"),
        *("X-M365watch-Key", "MIME-Version", "Content-Type"),
        *(["X-Peer"] if "X-Peer" in mail else []),
    }


@pytest.mark.parametrize(
    ("server", "changes", "kind", "words"),
    [
        (
            MailServer("starttls", needs_login=True),
            {"password": "wrong"},
            NotificationsRefused,
            "login",
        ),
        (MailServer("starttls"), {"trusts": False}, NotificationsRefused, "certificate"),
        (MailServer("none"), {"security": "starttls"}, NotificationsRefused, "does not offer STARTTLS"),
        (MailServer("none"), {"security": "tls"}, NotificationsRefused, "does not speak TLS as expected"),
        (MailServer(refuses={SOC: "550 no", DUTY: "550 no"}), {}, NotificationsRefused, "every recipient"),
        (MailServer(refuses={SOC: "450 busy", DUTY: "550 no"}), {}, Unavailable, "450"),
        (MailServer(refuses={"DATA": "451 later"}), {}, Unavailable, "451: later"),
    ],
    ids=["login", "certificate", "starttls", "tls", "recipients", "greylisted", "later"],
)
def test_an_answer_says_what_happens_next(
    server: MailServer, changes: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path
) -> None:
    """It may work later, or somebody has to do something; no password is in any text."""
    with replace(server, folder=tmp_path, mails=[], recipients=[]) as running, pytest.raises(kind) as raised:
        send(target_of(running, **changes))

    assert words in str(raised.value)
    assert PASSWORD not in str(raised.value)
    assert running.mails == []


def test_a_mail_that_the_server_will_never_take_is_refused_by_name() -> None:
    """The next one may be taken."""
    with MailServer(refuses={"DATA": "552 too large for us"}) as server:
        assert send(target_of(server)) == Sent({0: "SMTP 552: too large for us"})


def test_one_recipient_that_is_refused_keeps_the_others_from_nothing() -> None:
    """They have the mail, and who has not is told."""
    structlog.reset_defaults()
    with MailServer(refuses={DUTY: "550 unknown"}) as server, capture_logs() as lines:
        assert send(target_of(server)) == Sent()

    assert server.recipients == [[SOC]]
    [line] = [line["event"] for line in lines]
    assert line.startswith(f"notifications mail: the server refuses {DUTY} (SMTP 550: unknown); the others")


def test_a_server_that_is_away_is_tried_again() -> None:
    """Nobody listens there."""
    with MailServer() as server:
        target = target_of(server)

    with pytest.raises(Unavailable, match="Connection refused"):
        send(target)


def test_a_check_sends_no_mail(tmp_path: Path) -> None:
    """It connects, secures the connection, logs in and leaves."""
    with MailServer("starttls", tmp_path, needs_login=True) as server:
        seen = asyncio.run(sender_of(target_of(server)).check())

    assert seen == f"127.0.0.1:{server.port} answers over STARTTLS and takes the login; no mail was sent"
    assert server.mails == []


def test_a_server_that_never_answers_keeps_no_run_from_ending() -> None:
    """Whoever gives up waits for none of its time-outs."""

    async def use(target: Channel[Any]) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sender_of(target).send(1, [new_of(make_alert())])

    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = SystemClock().monotonic_s()
        asyncio.run(use(target_at(silent)))
        assert SystemClock().monotonic_s() - began_s < 30


def say(listening: socket.socket, answers: list[bytes]) -> None:
    """Say these to whoever comes, each when something was heard, and hang up."""
    connection, _ = listening.accept()
    with connection:
        for answer in answers:
            connection.sendall(answer)
            connection.recv(4096)


@guarantee(26)
def test_a_login_that_is_answered_with_nonsense_is_tried_again() -> None:
    """What the server asks for is no Base64: one line, and no defect."""
    answers = [b"220 hello\r\n", b"250-mail.example\r\n250 AUTH PLAIN\r\n", b"334 x\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=say, args=(listening, answers))
        serving.start()

        with pytest.raises(Unavailable, match=r": its answer to the login is not SMTP's; tried again"):
            send(target_at(listening, username=USER, password=PASSWORD))
        serving.join(10)


def say_on_and_on(listening: socket.socket) -> None:
    """Greet whoever comes with an answer that has no last line, until they have gone."""
    connection, _ = listening.accept()
    with connection, suppress(OSError):
        while True:
            connection.sendall(b"220-welcome\r\n")


def test_an_answer_without_an_end_is_given_up() -> None:
    """Found by the fuzzer: its lines were kept in memory, for as long as the server went on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=say_on_and_on, args=(listening,), daemon=True)
        serving.start()

        with pytest.raises(Unavailable, match=r": its answer has more than 100 lines; tried again"):
            send(target_at(listening))
        serving.join(PATIENCE_S)

    assert not serving.is_alive()


def test_an_answer_of_some_lines_is_read_to_its_end() -> None:
    """As each server gives one: the bound is of an answer, and not of a connection."""
    hello = b"220-hello\r\n" * 90 + b"220 hello\r\n"
    able = b"250-mail.example\r\n" * 90 + b"250 SIZE 1000000\r\n"
    answers = [hello, able, b"250 ok\r\n", b"550 no such user\r\n", b"250 ok\r\n", b"221 bye\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=say, args=(listening, answers), daemon=True)
        serving.start()

        with pytest.raises(NotificationsRefused, match="refuses every recipient"):
            send(target_at(listening))


def test_whoever_gives_up_on_a_mail_server_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers a line now and then would keep a thread, and with each try one more."""
    monkeypatch.setattr("m365watch.notifications.channels.email.smtp_sender.TIMEOUT_S", 10 * PATIENCE_S)
    came, gone = threading.Event(), threading.Event()

    def greet() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"220-wait\r\n")
            came.set()
            with suppress(ConnectionResetError):
                connection.recv(4096)
            gone.set()

    async def use() -> None:
        sender = sender_of(target_at(listening))
        sending = asyncio.create_task(sender.send(1, [new_of(make_alert())]))
        assert await asyncio.to_thread(came.wait, PATIENCE_S)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=greet, daemon=True)
        serving.start()
        asyncio.run(use())
        serving.join(PATIENCE_S)

    assert gone.is_set()


def test_a_password_that_a_login_cannot_carry_is_told(tmp_path: Path) -> None:
    """It is for whoever set it, and not for the next try."""
    with MailServer("starttls", tmp_path, needs_login=True) as server:
        target = target_of(server, password="a made-up pässword")

        with pytest.raises(NotificationsRefused, match="knows ASCII alone; give the account"):
            send(target)
