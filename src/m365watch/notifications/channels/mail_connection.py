"""A connection to a mail server whose answers are bounded, and that another thread can end."""

from __future__ import annotations

import smtplib
import socket
from contextlib import suppress
from typing import Any

TIMEOUT_S = 20.0
"""How long the server may take over one step."""
ANSWER_LINES_MAX = 100
"""Of one answer; what a server can do it says in some ten lines, each of which the library bounds."""


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
