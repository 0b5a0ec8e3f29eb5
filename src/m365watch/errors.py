"""Every error that crosses a room, sorted by what has to happen next.

    CollectorError
    |-- RetryLater        repeat the call after `after_s`; nothing has been lost
    |   |-- Throttled         the service asked for fewer requests
    |   |-- Unavailable       5xx, time-out, broken connection
    |   |   `-- ConnectionClosed    the service closed the connection before it had answered
    |   |-- BadAnswer         an answer that is not what was asked for: HTML, cut short, no JSON
    |   |-- TokenRefused      a fresh token was refused as well
    |   |-- NotSubscribed     the subscription is missing or was disabled: start it again
    |   |-- WindowRefused     the service refuses the window or its page token: plan it anew
    |   |-- OutputUnavailable an output cannot write just now, for example a full disk
    |   |   `-- OutputClosed        the receiver closed the connection with something under way
    |   `-- LedgerUnavailable the ledger cannot write just now, for example a full disk
    |-- NeedsOperator       a person has to do `fix`; repeating alone will not help
    |   |-- SettingsRefused     the configuration file, every mistake of it
    |   |-- CredentialsRefused  Entra refused the credential, the application or the tenant
    |   |-- AccessRefused       the token lacks a permission, or the tenant's audit is off
    |   |-- OutputUnusable      an output cannot start: unwritable directory, foreign table
    |   |-- LedgerUnusable      the ledger cannot be read or written
    |   `-- LedgerHeld          another process holds the ledger
    |-- Quarantined         this record or blob cannot go on; kept by name, go on with the next
    `-- ContentLost         the service no longer serves this content; count it, in plain sight

The class says what happens next, `code` is the stable name for metrics and documents, and
the text says where, what, and what then.
"""

from __future__ import annotations

from typing import ClassVar


class CollectorError(Exception):
    """Anything that goes wrong and that somebody outside the room has to know about."""

    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, where: str = "") -> None:
        """Keep `what` happened and `where`; never a secret, a token or a record's body."""
        super().__init__(what)
        self.what = what
        self.where = where

    def __str__(self) -> str:
        """One line: where, what, and what happens next."""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}{self._then()}"

    def _then(self) -> str:
        return ""


class RetryLater(CollectorError):
    """Repeat the call after `after_s` seconds; nothing has been lost."""

    code = "retry_later"

    def __init__(self, what: str, *, where: str = "", after_s: float | None = None) -> None:
        """`after_s` is what the service asked for; None leaves the pace to the caller."""
        super().__init__(what, where=where)
        self.after_s = after_s

    def _then(self) -> str:
        when = "" if self.after_s is None else f" in {self.after_s:g} s"
        return f"; tried again{when}, nothing lost"


class Throttled(RetryLater):
    """The service asked for fewer requests (AF429, HTTP 429)."""

    code = "throttled"


class Unavailable(RetryLater):
    """No useful answer: HTTP 5xx, a time-out, a broken connection."""

    code = "unavailable"


class ConnectionClosed(Unavailable):
    """The service closed the connection before it had answered."""

    code = "connection_closed"


class BadAnswer(RetryLater):
    """An answer that is not what was asked for: HTML, cut short, no JSON, an error under HTTP 200."""

    code = "bad_answer"


class TokenRefused(RetryLater):
    """HTTP 401 although the token had just been renewed."""

    code = "token_refused"


class NotSubscribed(RetryLater):
    """The subscription is missing (AF20022) or was disabled (AF20023): start it, then repeat."""

    code = "not_subscribed"


class WindowRefused(RetryLater):
    """The service refuses the window (AF20030, AF20055) or its page token (AF20031): plan anew."""

    code = "window_refused"


class OutputUnavailable(RetryLater):
    """An output cannot take the batch just now, for example because its disk is full."""

    code = "output_unavailable"


class OutputClosed(OutputUnavailable):
    """The receiver closed the connection while something was under way to it."""

    code = "output_closed"


class LedgerUnavailable(RetryLater):
    """The ledger cannot be written just now, for example because its disk is full."""

    code = "ledger_unavailable"


class NeedsOperator(CollectorError):
    """A person has to do `fix`; repeating alone will not help."""

    code = "needs_operator"

    def __init__(self, what: str, *, fix: str, where: str = "") -> None:
        """`fix` is one imperative sentence without its full stop."""
        super().__init__(what, where=where)
        self.fix = fix

    def _then(self) -> str:
        return f"; {self.fix}"


class SettingsRefused(NeedsOperator):
    """The configuration cannot be used; `mistakes` names each in one line."""

    code = "settings_refused"

    def __init__(self, mistakes: list[str], *, where: str) -> None:
        """One line per mistake, each with the path of its key and what would be right."""
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(count, fix="correct the lines named and start again", where=where)
        self.mistakes = mistakes


class CredentialsRefused(NeedsOperator):
    """Entra refused the credential, the application or the tenant (an AADSTS code)."""

    code = "credentials_refused"


class AccessRefused(NeedsOperator):
    """The token lacks a permission (AF10001), or the tenant's audit was never enabled."""

    code = "access_refused"


class OutputUnusable(NeedsOperator):
    """An output cannot start: its directory cannot be written, its table is not ours."""

    code = "output_unusable"


class LedgerUnusable(NeedsOperator):
    """The ledger cannot be opened, read or written."""

    code = "ledger_unusable"


class LedgerHeld(NeedsOperator):
    """Another process holds the ledger; two would deliver everything twice."""

    code = "ledger_held"


class Quarantined(CollectorError):
    """This record or blob cannot go on; it is kept by name, and the next one goes on."""

    code = "quarantined"


class ContentLost(CollectorError):
    """The service no longer serves this content (AF20050, AF20051, AF20052); it is counted."""

    code = "content_lost"
