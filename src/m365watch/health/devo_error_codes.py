"""The collector's errors as Devo's operators know them: a class, a number, and the reason.

Devo sorts errors by the step in which they happen: variables (0-99), setup (100-199), the state
before the first pull (200-299), pulling (300-399), the service's interface (400-499). A row gives
each code of `errors.py`, and each code that a line of the collector carries, its place there.

Source: devo.md 1, error classes and code ranges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from m365watch.common.errors import CollectorError, SettingsRefused

CONNECTION_CLOSED = "collector failed Connection closed by server."
"""What the query of Devo's product page looks for in `devo.collectors.out`."""


class DevoClass(Enum):
    """Devo's names for the steps, each with the codes it may use."""

    InitVariablesError = range(100)
    SetupError = range(100, 200)
    PrePullError = range(200, 300)
    PullError = range(300, 400)
    ApiError = range(400, 500)


@dataclass(frozen=True, slots=True)
class DevoRow:
    """One code of the collector's, what it is at Devo, and what helps."""

    code: str
    devo_class: DevoClass
    number: int
    cause: str
    cure: str
    fixed: str = ""
    """The text that Devo documents for this number; it comes before our own."""

    @property
    def start(self) -> str:
        """How every text of the row begins: `SetupError [CODE:0100] reason:`."""
        return f"{self.devo_class.name} [CODE:{self.number:04}] reason:"

    @property
    def form(self) -> str:
        """The same with the fixed text, which Devo's own queries look for."""
        return f"{self.start} {self.fixed}" if self.fixed else self.start


_VARIABLES, _SETUP, _STATE = DevoClass.InitVariablesError, DevoClass.SetupError, DevoClass.PrePullError
_PULL, _API = DevoClass.PullError, DevoClass.ApiError
_ITSELF = "nothing: it is tried again by itself"
_READ = "read the text: it says what to do"

LIMITS_TYPE = DevoRow(
    SettingsRefused.code,
    _VARIABLES,
    2,
    "`requests_limits` is no list",
    "make it a list of `period` and `number_of_requests`",
    "<requests_limits> setting has been defined with wrong type.",
)
LIMITS_FORMAT = DevoRow(
    SettingsRefused.code,
    _VARIABLES,
    3,
    "an element of `requests_limits` is not of its form",
    "correct the element named",
)
ROWS = (
    DevoRow(
        "settings_refused",
        _VARIABLES,
        1,
        "the configuration has mistakes",
        "correct the lines named and start again",
        "The user config did not pass the format validation."
        " Check error traces for details and visit our documentation.",
    ),
    DevoRow(
        "access_refused",
        _SETUP,
        100,
        "the application may not read the feed, or the tenant's audit is off",
        "grant the permission named, or turn auditing on",
        "The remote data is not pullable with the given credentials. Check the error traces for details.",
    ),
    DevoRow(
        "token_refused",
        _SETUP,
        101,
        "a token was refused although it was fresh",
        "nothing at first; if it stays, check the application and the machine's clock",
        "The token/header/authentication was refreshed but is still expired."
        " Check the error traces for details.",
    ),
    DevoRow(
        "credentials_refused",
        _SETUP,
        102,
        "Entra refused the credential, the application or the tenant",
        "renew the secret, or correct what the AADSTS code names",
    ),
    DevoRow("not_subscribed", _SETUP, 103, "the subscription is missing or was disabled", _ITSELF),
    DevoRow(
        "credential_expires",
        _SETUP,
        104,
        "a secret or certificate of the application expires soon, or has expired",
        "make a new one, as the text says; [monitoring.md](../monitoring.md) has the days",
    ),
    DevoRow(
        "consent_missing",
        _SETUP,
        105,
        "the tenant does not know the application, has disabled it, or nobody has consented to it",
        "let the tenant's administrator consent again",
    ),
    DevoRow(
        "permission_missing",
        _SETUP,
        106,
        "the token lacks a permission",
        "grant the permission named, with admin consent",
        "The remote data is not pullable with the given credentials. Check the error traces for details.",
    ),
    DevoRow("output_unusable", _SETUP, 110, "an output cannot start", _READ),
    DevoRow("lake_missing", _SETUP, 111, "there is no lake where it is looked for", _READ),
    DevoRow("query_refused", _SETUP, 112, "the SQL of a query is wrong", _READ),
    DevoRow("query_stopped", _SETUP, 113, "a query met a limit", _READ),
    DevoRow("lake_held", _SETUP, 114, "another upkeep of the lake is at work", _READ),
    DevoRow("lake_unusable", _SETUP, 115, "the lake cannot be looked after", _READ),
    DevoRow("erasure_open", _SETUP, 116, "an erasure has begun and not ended", _READ),
    DevoRow("consent_refused", _SETUP, 117, "no administrator has consented to the application", _READ),
    DevoRow(
        "webhook_refused",
        _SETUP,
        118,
        "Microsoft could not validate the webhook; polling goes on",
        "let Microsoft reach the address; [webhook.md](../webhook.md)",
    ),
    DevoRow("alerts_refused", _SETUP, 119, "Devo's Alerts API refuses the token or an alert", _READ),
    DevoRow("notifications_refused", _SETUP, 121, "a target of notifications takes none", _READ),
    DevoRow("filter_refused", _SETUP, 122, "a filter cannot be read", _READ),
    DevoRow("list_too_long", _SETUP, 123, "Graph lists more than a response looks at", _READ),
    DevoRow(
        "journal_unwritable", _SETUP, 124, "what is done to contain alerts cannot be written down", _READ
    ),
    DevoRow("journal_unreadable", _SETUP, 125, "what was done to contain alerts cannot be read", _READ),
    DevoRow("response_held", _SETUP, 126, "another process carries a response out", _READ),
    DevoRow("nothing_there", _SETUP, 127, "Graph has nothing where a response looks", _READ),
    DevoRow("needs_operator", _SETUP, 199, "a person is needed", _READ),
    DevoRow(
        "ledger_unusable",
        _STATE,
        200,
        "the ledger cannot be opened, read or written",
        "see to the state directory and its disk",
        CONNECTION_CLOSED,
    ),
    DevoRow("ledger_held", _STATE, 201, "another collector uses the ledger", "stop that process first"),
    DevoRow(
        "ledger_unavailable",
        _STATE,
        202,
        "the ledger cannot be written just now",
        "see to the state directory and its disk; then it goes on by itself",
        CONNECTION_CLOSED,
    ),
    DevoRow("window_refused", _STATE, 240, "the service refuses a window or the token of a page", _ITSELF),
    DevoRow(
        "gap",
        _STATE,
        241,
        "the collector stood still too long: content became older than the service lists",
        "keep the collector running; `m365watch recover` brings it back",
    ),
    DevoRow("query_gone", _STATE, 242, "Graph does not know an audit log query any more", _ITSELF),
    DevoRow(
        "clock_wrong",
        _STATE,
        243,
        "this machine's clock is off by more than a minute",
        "set the clock right, with NTP",
    ),
    DevoRow("error", _PULL, 300, "anything else", _READ),
    DevoRow(
        "content_lost",
        _PULL,
        301,
        "the service no longer serves content that it had listed",
        "look at the lag in `status`; `m365watch recover` brings it back",
    ),
    DevoRow(
        "quarantined",
        _PULL,
        302,
        "a record or blob cannot go on, and is kept by name",
        "look at it with `m365watch quarantine`",
    ),
    DevoRow("repaired", _PULL, 303, "content turned up that no listing had shown before", "nothing"),
    DevoRow(
        "listing_unreadable",
        _PULL,
        304,
        "a listing names content in a way that cannot be understood",
        "report it; the rest is collected, and it is listed again",
    ),
    DevoRow("defect", _PULL, 305, "an error of the collector itself", "report it, with the text"),
    DevoRow(
        "schema_drift",
        _PULL,
        306,
        "records bring a record type or an operation that was never seen before",
        "nothing; `m365watch drift` lists what is new",
    ),
    DevoRow(
        "silent",
        _PULL,
        307,
        "a feed has no content at a time when it always had some",
        "look at `m365watch gaps`, at the subscription and at Microsoft's service health",
    ),
    DevoRow(
        "output_unavailable",
        _PULL,
        310,
        "an output cannot write just now",
        "see to what the text names; then it goes on by itself",
    ),
    DevoRow(
        "output_closed",
        _PULL,
        311,
        "the receiver of an output closed the connection with something under way",
        "see to the receiver if it happens often; what was under way is sent again",
        CONNECTION_CLOSED,
    ),
    DevoRow("retry_later", _API, 400, "the service cannot answer just now", _ITSELF),
    DevoRow("unavailable", _API, 410, "HTTP 5xx, a time-out, a broken connection", _ITSELF),
    DevoRow(
        "connection_closed",
        _API,
        411,
        "Microsoft closed the connection before it had answered",
        _ITSELF,
        CONNECTION_CLOSED,
    ),
    DevoRow("bad_answer", _API, 412, "the answer was something else, or cut short", _ITSELF),
    DevoRow(
        "unreachable",
        _API,
        413,
        "there is no way to the service's host: name, proxy, connection or TLS",
        "nothing where it passes; else see to what the text names: `m365watch check` tries each step",
    ),
    DevoRow(
        "answer_too_large",
        _API,
        415,
        "the answer is larger than the collector accepts",
        "raise `globals.answer_megabytes_max`",
    ),
    DevoRow(
        "throttled",
        _API,
        429,
        "the service asked for fewer requests",
        "nothing; if it stays, lower `requests_limits` or stop others that use the tenant's quota",
    ),
)
"""One row for each code, in the order of Devo's numbers.

The codes of a run that are no class of `errors.py` are in it too.
"""

_BY_CODE = {row.code: row for row in ROWS}
_LIMITS = re.compile(r"\brequests_limits\b(\S*?):")


def devo_text(error: CollectorError) -> str:
    """`error` as Devo writes it, in one line: `SetupError [CODE:0100] reason: <cause>`."""
    row = row_of(error)
    return f"{row.form} {error}"


def devo_line(code: str, text: str) -> str:
    """`text`, which a line with our `code` says, as Devo writes it; unchanged for a code without a row."""
    row = _BY_CODE.get(code)
    return f"{row.form} {text}" if row else text


def row_of(error: CollectorError) -> DevoRow:
    """The row of the error's own code, or of the nearest class above it that has one."""
    if isinstance(error, SettingsRefused) and error.mistakes:
        limits = [_LIMITS.search(mistake) for mistake in error.mistakes]
        if all(limits):
            return LIMITS_FORMAT if any(found and found[1] for found in limits) else LIMITS_TYPE
    codes = [kind.code for kind in type(error).__mro__ if issubclass(kind, CollectorError)]
    return next(_BY_CODE[code] for code in codes if code in _BY_CODE)
