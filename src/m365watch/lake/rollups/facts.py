"""What is counted: the columns of the facts, how each is made of a record, which of them rollups have.

A fact is `n` records that are alike in some columns and of one time `at_s` (seconds since 1970). A record
by itself is a fact with `n` = 1. Sums of `n` are therefore the same over records and over any rollup that
has the columns, and a rollup of two sets of files is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from m365watch.values import dataclass

HOUR_S = 3_600

_SECONDS = "epoch_us(coalesce(created_at, received_at)) // 1000000"
_DONE = "'', 'true', 'success', 'succeeded', 'partiallysucceeded'"
_OUTCOME = (
    "CASE lower(operation) WHEN 'userloginfailed' THEN 'failed' WHEN 'userloggedin' THEN 'ok'"
    f" ELSE CASE WHEN lower(coalesce(result, '')) IN ({_DONE}) THEN 'ok' ELSE 'failed' END END"
)

MADE_OF = {
    "tenant_id": "lower(tenant_id)",
    "workload": "coalesce(workload, '')",
    "record_type": "record_type",
    "operation": "coalesce(operation, '')",
    "user_type": "user_type",
    "user_id": "lower(coalesce(user_id, ''))",
    "client_ip": "lower(coalesce(client_ip, ''))",
    "outcome": _OUTCOME,
    "app_id": "lower(coalesce(app_id, ''))",
}
"""SQL over `audit` by column of the facts."""


def _text(path: str) -> str:
    return f"coalesce(try(raw->>'{path}'), '')"


def _named(array: str, name: str) -> str:
    """The value that a list of names and values has under a name; empty where there is none."""
    shape = """'[{"Name":"VARCHAR","Value":"VARCHAR"}]'"""
    pairs = f"from_json(raw->'$.{array}', {shape})"
    return f"coalesce(try(list_filter({pairs}, lambda one: one.Name = '{name}')[1].Value), '')"


_AGENT = _named("ExtendedProperties", "UserAgent")

SIGN_IN_MADE_OF = {
    "tenant_id": MADE_OF["tenant_id"],
    "user_id": MADE_OF["user_id"],
    "client_ip": MADE_OF["client_ip"],
    "app_id": MADE_OF["app_id"],
    "outcome": (
        "CASE WHEN lower(operation) = 'userloginfailed'"
        f" OR {_text('$.ErrorNumber')} NOT IN ('', '0') THEN 'failed' ELSE 'ok' END"
    ),
    "operation": MADE_OF["operation"],
    "workload": MADE_OF["workload"],
    "record_type": "record_type",
    "user_type": "user_type",
    "error": f"coalesce(nullif({_text('$.LogonError')}, ''), {_text('$.ErrorNumber')})",
    "agent": f"left({_AGENT}, 300)",
    "system": f"left({_named('DeviceProperties', 'OS')}, 60)",
    "browser": f"left({_named('DeviceProperties', 'BrowserType')}, 60)",
    "request": f"left({_named('ExtendedProperties', 'RequestType')}, 60)",
    "session": (
        f"lower(left(coalesce(nullif({_named('DeviceProperties', 'SessionId')}, ''), session_id, ''), 60))"
    ),
}
"""The same of sign-ins, whose outcome, program and device only the record itself says."""
_NETWORK = (
    "CASE WHEN client_ip LIKE '%:%' THEN list_aggregate(string_split(client_ip, ':')[1:3], 'string_agg', ':')"
    " || '::/48' WHEN client_ip = '' THEN '' ELSE regexp_replace(client_ip, '\\.[0-9]+$', '.0/24') END"
)
"""The network of an address: the first three parts of either kind."""
_TOOL = (
    "regexp_matches(lower(agent), 'python|curl|axios|go-http|powershell|roadtools|aadinternals|okhttp"
    "|node-fetch|wget|java/|postman|fasthttp')"
)
_DEVICE_CODE = "request = 'Cmsi:Cmsi'"
_LEGACY = "regexp_matches(lower(agent), 'bav2ropc|cba(in)?prod|msrpc|imap|pop3|smtp')"
_BROWSER = (
    "CASE WHEN regexp_matches(agent, 'Edg(e|A|iOS)?/') THEN 'Edge'"
    " WHEN regexp_matches(agent, 'OPR/|Opera') THEN 'Opera'"
    " WHEN regexp_matches(agent, 'Chrome/|CriOS/') THEN 'Chrome'"
    " WHEN regexp_matches(agent, 'Firefox/|FxiOS/') THEN 'Firefox'"
    " WHEN regexp_matches(agent, 'Safari/') THEN 'Safari' WHEN agent = '' THEN 'not said'"
    " WHEN agent LIKE 'Mozilla/%' THEN 'other browser'"
    " ELSE regexp_extract(agent, '^[A-Za-z][A-Za-z0-9_.+-]{0,40}') END"
)
SIGN_IN_DERIVED = {
    "network": _NETWORK,
    "browser_name": _BROWSER,
    "way": (
        f"CASE WHEN {_LEGACY} THEN 'password alone' WHEN {_DEVICE_CODE} THEN 'device code'"
        f" WHEN {_TOOL} THEN 'tool' ELSE '' END"
    ),
}
"""The same, made of the columns above; patterns are matched once, and not at every look."""
IS_SIGN_IN = "lower(operation) IN ('userloggedin', 'userloginfailed')"


@dataclass(frozen=True, slots=True, eq=False)
class Rollup:
    """By which columns one set of counts is kept."""

    name: str
    made_of: dict[str, str]
    only: str = "true"
    """Which records are counted."""
    derived: Mapping[str, str] = field(default_factory=dict)
    """Further columns, made of those of `made_of`."""
    grain_s: int = HOUR_S
    """The length of the spans that it counts; 1 where every second stays apart."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it counts by, beside the hour."""
        return (*self.made_of, *self.derived)

    def over_records(self, files: str) -> str:
        """Facts with `at_s` to the second and `n` = 1, from the lake's own files."""
        made = ", ".join(f"{sql} AS {name}" for name, sql in self.made_of.items())
        facts = f"SELECT {_SECONDS} AS at_s, {made}, 1 AS n FROM {files} WHERE {self.only}"
        if not self.derived:
            return facts
        derived = ", ".join(f"{sql} AS {name}" for name, sql in self.derived.items())
        return f"SELECT at_s, {', '.join(self.made_of)}, {derived}, n FROM ({facts})"

    def over_rollups(self, files: str) -> str:
        """Facts as a rollup's files hold them."""
        return f"SELECT at_s, {', '.join(self.columns)}, n FROM {files}"

    def summed(self, facts: str) -> str:
        """The facts `facts`, span by span."""
        names = ", ".join(self.columns)
        span = f"at_s // {self.grain_s} * {self.grain_s}"
        return (
            f"SELECT {span} AS at_s, {names}, CAST(sum(n) AS BIGINT) AS n FROM ({facts})"
            f" GROUP BY {span}, {names} ORDER BY {span}, {names}"
        )


def _some(*names: str) -> dict[str, str]:
    return {name: MADE_OF[name] for name in names}


HOURS = Rollup("hours", _some("tenant_id", "workload", "record_type", "operation", "user_type", "outcome"))
ACTORS = Rollup("actors", {**HOURS.made_of, **_some("user_id")})
ADDRESSES = Rollup("addresses", {**HOURS.made_of, **_some("client_ip")})
SIGN_INS = Rollup("sign_ins", SIGN_IN_MADE_OF, only=IS_SIGN_IN, derived=SIGN_IN_DERIVED, grain_s=1)
"""To the second: hardly two of them are alike, and only the records say what is in it."""
_RARE_TYPES = "11, 13, 24, 28, 29, 30, 31, 33, 40, 41, 47, 63, 64, 65, 98, 261, 295, 296, 297"
"""DLP, eDiscovery, threats, reports, quarantine, alerts, Power Automate, Copilot, the audit itself."""
_OF_MAILBOXES = (
    "'updateinboxrules', 'addfolderpermissions', 'modifyfolderpermissions', 'removefolderpermissions'"
)
_OF_SITES = (
    "'^(sharing(set|revoked|policychanged|invitation.*)|anonymouslink.*|companylinkcreated|addedtosecurelink"
    "|securelinkcreated|addedtogroup|sitecollectionadmin.*|file(malwaredetected|versionsalldeleted))$'"
)
_OF_DIRECTORY = "'consent|grant|principal|application|owner|role|policy|federat|domain|partner|feature'"
_OF_TEAMS = "'^(member|team.*(setting|deleted)|app|bot|connector|tab)'"
IS_CHANGE = (
    f"record_type IN ({_RARE_TYPES})"
    " OR (record_type = 1 AND coalesce(user_type, 0) NOT IN (3, 4))"
    f" OR (record_type = 2 AND lower(operation) IN ({_OF_MAILBOXES}))"
    f" OR (record_type IN (4, 6, 14) AND regexp_matches(lower(operation), {_OF_SITES}))"
    f" OR (record_type = 8 AND regexp_matches(lower(operation), {_OF_DIRECTORY}))"
    " OR (record_type = 18 AND NOT starts_with(lower(operation), 'get-'))"
    f" OR (record_type = 25 AND (regexp_matches(lower(operation), {_OF_TEAMS})"
    """ OR contains(raw, '"HasForeignTenantUsers":true')))"""
)
"""Changes made by people, sharing, verdicts: so few of all records that their own text can be kept."""
CHANGES = Rollup(
    "changes",
    {**MADE_OF, "object": "coalesce(object_id, '')", "record": "id", "raw": "raw"},
    only=f"({IS_CHANGE})",
    grain_s=1,
)
"""Changes one by one, with their own text: a table of them reads no other record."""
MAILBOXES = Rollup(
    "mailboxes",
    {
        **MADE_OF,
        "mailbox": f"lower({_text('$.MailboxOwnerUPN')})",
        "logon": f"left({_text('$.LogonType')}, 4)",
        "access": f"left({_named('OperationProperties', 'MailAccessType')}, 12)",
        "throttled": f"lower(left({_named('OperationProperties', 'IsThrottled')}, 5))",
        "program": f"left(regexp_extract({_text('$.ClientInfoString')}, '^(Client=)?([^;]*)', 2), 60)",
        "folder": f"left(coalesce(nullif({_text('$.Folders[0].Path')}, ''), {_text('$.Folder.Path')}), 120)",
    },
    only="record_type IN (2, 3, 50)",
)
"""What was done in mailboxes: in whose, as whom, with which program, in which folder."""
FILES = Rollup(
    "files",
    {
        **MADE_OF,
        "site": f"lower(rtrim(left({_text('$.SiteUrl')}, 200), '/'))",
        "extension": f"lower(left({_text('$.SourceFileExtension')}, 20))",
        "agent": f"left({_text('$.UserAgent')}, 120)",
    },
    only="record_type IN (4, 6, 14, 36)",
    derived={"program": _BROWSER},
)
"""What was done with files, pages and lists: on which site, to which kind of file, with which program."""
RECORDS = Rollup("records", MADE_OF)
"""No rollup at all: every record by itself, with all columns."""
TRACES = Rollup(
    "traces",
    {
        **MADE_OF,
        "session": "lower(coalesce(session_id, ''))",
        "object": "coalesce(object_id, '')",
        "record": "id",
        "raw": "raw",
    },
)
"""Every record by itself, and what it is about; its own text is read where a query names it."""
KEPT = (HOURS, ACTORS, ADDRESSES, SIGN_INS, CHANGES, MAILBOXES, FILES)
"""Those that are kept on disk, the smallest first."""


def smallest_with(columns: frozenset[str]) -> Rollup:
    """The smallest rollup of all records that counts by these columns; `RECORDS` where none does."""
    among = (HOURS, ACTORS, ADDRESSES)
    return next((one for one in among if columns <= set(one.columns)), RECORDS)
