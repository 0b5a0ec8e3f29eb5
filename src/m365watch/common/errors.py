"""Every error that crosses a room, sorted by what has to happen next.

    CollectorError
    |-- RetryLater        repeat the call after `after_s`; nothing has been lost
    |-- NeedsOperator       a person has to do `fix`; repeating alone will not help
    |-- Quarantined         this record or blob cannot go on; kept by name, go on with the next
    `-- ContentLost         the service no longer serves this content; count it, in plain sight

The class says what happens next, `code` is the stable name for metrics and documents, and
the text says where, what, and what then.
"""

from __future__ import annotations

from typing import ClassVar

from m365watch.common.text import plain


class CollectorError(Exception):
    """Anything that goes wrong and that somebody outside the room has to know about."""

    code: ClassVar[str] = "error"
    fix: str = ""
    """What somebody has to do; empty where nobody can do anything."""

    def __init__(self, what: str, *, where: str = "") -> None:
        """Keep `what` happened and `where`, each on one line; never a secret, a token or a record's body."""
        # A library quotes what it read: a damaged file's names, a server's words.
        self.what, self.where = plain(what), plain(where)
        super().__init__(self.what)

    def __str__(self) -> str:
        """One line: where, what, and what happens next."""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}{self._then()}"

    def _then(self) -> str:
        return ""


class RetryLater(CollectorError):
    """Repeat the call after `after_s` seconds; nothing has been lost.

    Do what the text says after its last semicolon; where it says nothing, there is nothing to do.
    """

    code = "retry_later"

    def __init__(self, what: str, *, where: str = "", after_s: float | None = None, fix: str = "") -> None:
        """`after_s` is what the service asked for; None leaves the pace to the caller.

        `fix` is what ends it where it does not pass: one imperative sentence without its full stop.
        """
        super().__init__(what, where=where)
        self.after_s = after_s
        self.fix = plain(fix)

    def _then(self) -> str:
        when = "" if self.after_s is None else f" in {self.after_s:g} s"
        return f"; tried again{when}, nothing lost" + (f"; {self.fix}" if self.fix else "")


class Throttled(RetryLater):
    """The service asked for fewer requests (AF429, HTTP 429).

    Nothing to do; where it lasts, lower `requests_limits` or stop other programs that use the tenant's quota.
    """

    code = "throttled"


class Unavailable(RetryLater):
    """No useful answer: HTTP 5xx, a time-out, a broken connection.

    Nothing to do; where it lasts, look at the network, the proxy and Microsoft's service health.
    """

    code = "unavailable"


class ConnectionClosed(Unavailable):
    """The service closed the connection before it had answered.

    Nothing to do; where it lasts, look for a proxy or firewall that cuts connections.
    """

    code = "connection_closed"


class Unreachable(Unavailable):
    """There is no way to the host: its name, the proxy, the connection or its TLS fails.

    Nothing to do where it passes; where it lasts, do what the text names: `m365watch check` tries each step.
    """

    code = "unreachable"


class BadAnswer(RetryLater):
    """An answer that is not what was asked for: HTML, cut short, no JSON, an error under HTTP 200.

    Nothing to do; where it lasts, look for a proxy that answers in the service's place.
    """

    code = "bad_answer"


class AnswerTooLarge(BadAnswer):
    """An answer that is larger than `globals.answer_megabytes_max`, before or after it is decompressed.

    Raise `globals.answer_megabytes_max`; a blob waits meanwhile, until it expires.
    """

    code = "answer_too_large"


class TokenRefused(RetryLater):
    """HTTP 401 although the token had just been renewed.

    Nothing to do; where it lasts, look at the machine's clock and the application's permissions.
    """

    code = "token_refused"


class NotSubscribed(RetryLater):
    """The subscription is missing (AF20022) or was disabled (AF20023): start it, then repeat.

    Nothing to do: it is started again by itself.
    """

    code = "not_subscribed"


class WebhookRefused(RetryLater):
    """Microsoft could not validate the webhook (AF20021); polling goes on without it.

    Let Microsoft reach `globals.webhook.address` over TLS with a certificate that it trusts, and let it lead
    to the collector's `listen`; the collector tries again every 15 minutes.
    """

    code = "webhook_refused"


class WindowRefused(RetryLater):
    """The service refuses the window (AF20030, AF20055) or its page token (AF20031): plan anew.

    Nothing to do; where it lasts, look at the machine's clock.
    """

    code = "window_refused"


class QueryGone(RetryLater):
    """Graph does not know an audit log query any more, or not a page of it: it is asked anew.

    Nothing to do; where it lasts, report it.
    """

    code = "query_gone"


class OutputUnavailable(RetryLater):
    """An output cannot take the batch just now, for example because its disk is full.

    Make room, or repair what the text names; the output then goes on by itself.
    """

    code = "output_unavailable"


class OutputClosed(OutputUnavailable):
    """The receiver closed the connection while something was under way to it.

    What was under way is sent again; where it lasts, see to the receiver.
    """

    code = "output_closed"


class LedgerUnavailable(RetryLater):
    """The ledger cannot be written just now, for example because its disk is full.

    Make room, or repair what the text names; the collector then goes on by itself.
    """

    code = "ledger_unavailable"


class NeedsOperator(CollectorError):
    """A person has to do `fix`; repeating alone will not help.

    Do what the text says after its last semicolon.
    """

    code = "needs_operator"

    def __init__(self, what: str, *, fix: str, where: str = "") -> None:
        """`fix` is one imperative sentence without its full stop."""
        super().__init__(what, where=where)
        self.fix = plain(fix)

    def _then(self) -> str:
        return f"; {self.fix}"


class SettingsRefused(NeedsOperator):
    """The configuration cannot be used; `mistakes` names each in one line.

    Correct what the lines name; docs/reference/settings.md has every setting.
    """

    code = "settings_refused"

    def __init__(
        self, mistakes: list[str], *, where: str, fix: str = "correct what is named and start again"
    ) -> None:
        """One line per mistake, each with the path of its key and what would be right."""
        what = mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(what, fix=fix, where=where)
        self.mistakes = [plain(one) for one in mistakes]


class CredentialsRefused(NeedsOperator):
    """Entra refused the credential, the application or the tenant (an AADSTS code).

    Look the code up below; renew the secret, or correct the ids, in the configuration.
    """

    code = "credentials_refused"


class ConsentMissing(CredentialsRefused):
    """The tenant does not know the application, has disabled it, or nobody has consented to it there.

    Let the tenant's administrator consent again (`m365watch consent url`); the tenant then goes on by itself.
    """

    code = "consent_missing"


class ConsentRefused(NeedsOperator):
    """No administrator of the tenant has consented to the application, or the answer is not to our question.

    Do what the text says; then `m365watch consent serve` asks again.
    """

    code = "consent_refused"


class AccessRefused(NeedsOperator):
    """The tenant's audit was never enabled, or the API refuses otherwise what was asked.

    Look the code up below; enable the tenant's audit, or correct the setting that the text names.
    """

    code = "access_refused"


class PermissionMissing(AccessRefused):
    """The token lacks a permission (AF10001): it was never granted, or taken away.

    Grant the permission with admin consent; the tenant then goes on by itself.
    """

    code = "permission_missing"


class ClockWrong(NeedsOperator):
    """This machine's clock is off by more than a minute from that of the service's answers.

    Set the clock right, with NTP or chrony; meanwhile content is collected by the service's clock.
    """

    code = "clock_wrong"


class ListingUnreadable(NeedsOperator):
    """A listing names content in a way that cannot be understood; the rest of it is collected.

    Report it; the listing is read again, and what it names is fetched once it can be understood.
    """

    code = "listing_unreadable"


class Defect(NeedsOperator):
    """An error of the collector itself; what met it is tried again later, and the rest goes on.

    Report it, with the text.
    """

    code = "defect"


class OutputUnusable(NeedsOperator):
    """An output cannot start: its directory cannot be written, its table is not ours.

    Name another directory for the output, or make that one writable.
    """

    code = "output_unusable"


class AlertsRefused(NeedsOperator):
    """Devo's Alerts API refuses the token or an alert's definition, or keeps another one.

    See to the token and the rights of its user; the text has what Devo said.
    """

    code = "alerts_refused"


class NotificationsRefused(NeedsOperator):
    """A target of notifications takes none: its address, its secret or its rights are not as they should be.

    Do what the text says; what waits is told once the target takes it, and `m365watch alerts notify --test`
    tries it.
    """

    code = "notifications_refused"


class LedgerUnusable(NeedsOperator):
    """The ledger cannot be opened, read or written.

    Start `m365watch run` where there is none yet; otherwise see to the state directory's rights and disk.
    """

    code = "ledger_unusable"


class LedgerHeld(NeedsOperator):
    """Another process holds the ledger; two would deliver everything twice.

    Stop the other collector, or give this one a state directory of its own.
    """

    code = "ledger_held"


class LakeMissing(NeedsOperator):
    """There is no lake where it is looked for.

    Start `m365watch run` first, or name the lake's directory with --lake.
    """

    code = "lake_missing"


class LakeHeld(NeedsOperator):
    """Another process is at the upkeep of the lake; two would stand in each other's way.

    Wait until it has ended; a collector's own upkeep takes a minute or two.
    """

    code = "lake_held"


class LakeUnusable(NeedsOperator):
    """The lake cannot be looked after: it cannot be read or written, or another engine has changed it.

    Do what the text says; what was committed before stays, and the command can be repeated.
    """

    code = "lake_unusable"


class ErasureOpen(NeedsOperator):
    """The erasure of another person was interrupted and has to be finished first.

    Run `m365watch lake erase --resume`.
    """

    code = "erasure_open"


class QueryRefused(NeedsOperator):
    """The SQL is wrong, or is not exactly one SELECT.

    Correct it where the text points; `SHOW TABLES` and `DESCRIBE audit` list what there is.
    """

    code = "query_refused"


class FilterRefused(NeedsOperator):
    """The filter cannot be read, from the named character on.

    Correct it there: docs/search.md says how filters are written.
    """

    code = "filter_refused"

    def __init__(self, what: str, *, at: int, fix: str, where: str = "") -> None:
        """`at` is the place in the filter's text, counted from 0."""
        super().__init__(f"character {at + 1}: {what}", fix=fix, where=where)
        self.at = at


class QueryStopped(NeedsOperator):
    """The query met its limit of time, memory or size, or the lake could not be read.

    Ask for fewer days, columns or rows; --timeout gives it more time.
    """

    code = "query_stopped"


class ListTooLong(NeedsOperator):
    """Graph lists more than a step of a response looks at, and nothing was done to a part of it.

    Carry the step out by the PowerShell that the plan has for it.
    """

    code = "list_too_long"


class NothingThere(NeedsOperator):
    """Graph has nothing under the address that a step of a response names: it is gone, or called otherwise.

    See what the plan names, and do it by hand where it is called otherwise by now.
    """

    code = "nothing_there"


class JournalUnwritable(NeedsOperator):
    """What a response does cannot be written down; it says whether it was done all the same.

    Make room on the disk of the state directory, or give this user the right to write responses.sqlite.
    """

    code = "journal_unwritable"


class JournalUnreadable(NeedsOperator):
    """What was done to contain alerts cannot be read.

    Give this user the right to read responses.sqlite, or call it as the user who responds.
    """

    code = "journal_unreadable"


class ResponseHeld(NeedsOperator):
    """Another process carries a response out, or takes one back; two could lock out the last administrators.

    Wait until it has ended, or end it if it was left at a question: what it did is written down. Then read
    the plan again; the text says who it is.
    """

    code = "response_held"


class Quarantined(CollectorError):
    """This record or blob cannot go on; it is kept by name, and the next one goes on.

    Look at what is kept: the reason stands beside it.
    """

    code = "quarantined"


class ContentLost(CollectorError):
    """The service no longer serves this content (AF20050, AF20051, AF20052); it is counted.

    Keep the collector running: the service serves content for 7 days; the audit search keeps records longer.
    """

    code = "content_lost"
