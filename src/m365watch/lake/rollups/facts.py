"""What is counted: the columns of the facts, how each is made of a record, which of them rollups have.

A fact is `n` records that are alike in some columns, the first of them at `at_s` and the last at `last_s`
(seconds since 1970), both in one span of time. A record by itself is a fact with `n` = 1. Sums of `n`, the
least `at_s` and the greatest `last_s` are therefore the same over records and over any rollup that has the
columns, and a rollup of two sets of files is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from m365watch.lake.rollups.flag_conditions import MARKED
from m365watch.lake.schema import AUDIT_COLUMNS, COMPARED

HOUR_S = 3_600
DAY_S = 86_400
WEEK_S = 7 * DAY_S
ROWS_PER_GROUP = 16_384
"""Rows of a file that are read or passed over together: about a thirtieth of a large organisation's day."""
ROWS_SORTED = 49_152
"""The same of slices of which one value's rows are read, and names stand in every group: in a third of that
one reads as quickly, and they take half as much room again."""
ROWS_READ_TOGETHER = 122_880
"""The same of slices, of which most is read: a name stands once in each group, however often it comes, and
counting different ones takes a fifth of the time."""

_SECONDS = "epoch_us(coalesce(created_at, received_at)) // 1000000"

MADE_OF = {column.fact.name: column.fact.sql for column in AUDIT_COLUMNS if column.fact}
"""SQL over `audit` by column of the facts."""


def _told(place: int) -> str:
    """What stands under the path at that place of a rollup's `told`; empty where nothing does."""
    return f"coalesce(told[{place}], '')"


def _named(place: int, name: str) -> str:
    """The value that a told list of names and values has under a name; empty where there is none."""
    shape = """'[{"Name":"VARCHAR","Value":"VARCHAR"}]'"""
    pairs = f"from_json(told[{place}], {shape})"
    return f"coalesce(try(list_filter({pairs}, lambda one: one.Name = '{name}')[1].Value), '')"


_SIGN_IN_TOLD = ("$.ErrorNumber", "$.LogonError", "$.ExtendedProperties", "$.DeviceProperties")
_AGENT = _named(3, "UserAgent")

SIGN_IN_MADE_OF = {
    "tenant_id": MADE_OF["tenant_id"],
    "user_id": MADE_OF["user_id"],
    "client_ip": MADE_OF["client_ip"],
    "app_id": MADE_OF["app_id"],
    "outcome": (
        "CASE WHEN lower(operation) = 'userloginfailed'"
        f" OR {_told(1)} NOT IN ('', '0') THEN 'failed' ELSE 'ok' END"
    ),
    "operation": MADE_OF["operation"],
    "workload": MADE_OF["workload"],
    "record_type": "record_type",
    "user_type": "user_type",
    "error": f"coalesce(nullif({_told(2)}, ''), {_told(1)})",
    "agent": f"left({_AGENT}, 300)",
    "system": f"left({_named(4, 'OS')}, 60)",
    "browser": f"left({_named(4, 'BrowserType')}, 60)",
    "request": f"left({_named(3, 'RequestType')}, 60)",
    "session": f"lower(left(coalesce(nullif({_named(4, 'SessionId')}, ''), {COMPARED['session']}), 60))",
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


@dataclass(frozen=True, slots=True)
class Slice:
    """A rollup once more, by fewer columns or longer spans: much smaller, and enough for most questions."""

    name: str
    columns: tuple[str, ...]
    """The most telling one first: its files are sorted by it."""
    grain_s: int = DAY_S
    is_narrowed: bool = False
    """Whether it is for questions that name a value of its first column: others come to it last."""
    rows_per_group: int = ROWS_READ_TOGETHER
    sorted_by: int = 1
    """By how many of its columns, before time."""
    only: str = "true"
    """Which facts it has: whoever asks for these alone, in the same words, finds them here."""
    is_small: bool = False
    """Whether a day's file is so small that to open it is most of what reading it costs."""

    @property
    def is_added_up(self) -> bool:
        """Whether there is one for a week as well: of what counts by days, and of few facts one by one."""
        return self.grain_s == DAY_S or self.is_small or self.only != "true"


@dataclass(frozen=True, slots=True, eq=False)
class Rollup:
    """By which columns one set of counts is kept."""

    name: str
    made_of: dict[str, str]
    only: str = "true"
    """Which records are counted."""
    told: tuple[str, ...] = ()
    """Paths into a record's own text, read together: reading them takes most of the time."""
    derived: Mapping[str, str] = field(default_factory=dict)
    """Further columns, made of those of `made_of`."""
    grain_s: int = HOUR_S
    """The length of the spans that it counts; 1 where every second stays apart."""
    order: tuple[str, ...] = ("user_id",)
    """What its files are sorted by: who asks for one value reads a small part of them."""
    slices: tuple[Slice, ...] = ()
    """The smallest first."""
    rows_per_group: int = ROWS_PER_GROUP

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it counts by, beside the hour."""
        return (*self.made_of, *self.derived)

    def over_records(self, files: str, *, within: str = "true") -> str:
        """Facts with `at_s` to the second and `n` = 1, from the lake's own files; `within` spares reading."""
        paths = ", ".join(f"'{path}'" for path in self.told)
        told = f", try(json_extract_string(raw, [{paths}])) AS told" if paths else ""
        records = f"SELECT *{told} FROM {files} WHERE {within} AND {self.only}"
        made = ", ".join(f"{sql} AS {name}" for name, sql in self.made_of.items())
        facts = f"SELECT {_SECONDS} AS at_s, {made}, 1 AS n FROM ({records})"
        derived = "".join(f", {sql} AS {name}" for name, sql in self.derived.items())
        return f"SELECT at_s, at_s AS last_s, {', '.join(self.made_of)}{derived}, n FROM ({facts})"

    def over_rollups(self, files: str, columns: Iterable[str] | None = None) -> str:
        """Facts as files of the rollup or of one of its slices hold them, with these columns."""
        named = ", ".join(self.columns if columns is None else columns)
        return f"SELECT at_s, last_s, {named}, n FROM {files}"

    def summed(self, facts: str, part: Slice | None = None) -> str:
        """The facts `facts`, span by span, as this rollup or a slice of it has them."""
        columns = self.columns if part is None else part.columns
        grain_s = self.grain_s if part is None else part.grain_s
        only = "" if part is None else f" WHERE {part.only}"
        names = ", ".join(columns)
        first = self.order if part is None else part.columns[: part.sorted_by]
        order = ", ".join(dict.fromkeys([*first, "at_s", *columns]))
        return (
            f"SELECT min(at_s) AS at_s, max(last_s) AS last_s, {names}, CAST(sum(n) AS BIGINT) AS n"
            f" FROM ({facts}){only} GROUP BY at_s // {grain_s}, {names} ORDER BY {order}"
        )


_KIND = ("tenant_id", "workload", "record_type", "operation", "user_type", "outcome")
"""What few values tell apart: all slices have them but those of the commonest questions."""
_BY_OPERATION = ("operation", *(one for one in _KIND if one != "operation"))
_OF_SESSIONS = ("operation", "tenant_id", "session", "app_id")
"""With the application: the slices of an application's sessions are made of these, and not of everything."""
IS_ADMINISTRATION = f"(record_type IN (1, 8, 18) OR user_type = 2) AND NOT ({IS_SIGN_IN})"
"""What is done to an organisation's settings, and by its administrators: one record of thirty."""
ACTIVITY = Rollup(
    "activity",
    {**MADE_OF, "session": COMPARED["session"]},
    slices=(
        Slice("persons", ("user_id", "tenant_id")),
        Slice("places", ("client_ip", "tenant_id")),
        Slice("app_sessions", ("app_id", "tenant_id", "session")),
        Slice("person_hours", ("user_id", "tenant_id"), HOUR_S),
        Slice("hours", _BY_OPERATION, HOUR_S, is_small=True),
        Slice("apps", ("app_id", *_KIND), HOUR_S, is_small=True),
        Slice("app_persons", ("app_id", "tenant_id", "user_id")),
        Slice("app_places", ("app_id", "tenant_id", "client_ip")),
        Slice("operation_persons", ("operation", "tenant_id", "user_id"), DAY_S, True, ROWS_SORTED),
        Slice("operation_places", ("operation", "tenant_id", "client_ip"), DAY_S, True, ROWS_SORTED),
        Slice("operation_sessions", _OF_SESSIONS, DAY_S, True, ROWS_SORTED),
        Slice("operation_session_hours", _OF_SESSIONS, HOUR_S, True, ROWS_SORTED),
        Slice("app_session_hours", ("app_id", "tenant_id", "session"), HOUR_S),
        Slice("app_person_hours", ("app_id", "tenant_id", "user_id"), HOUR_S, True, ROWS_SORTED),
        Slice("addresses", ("client_ip", *_KIND), rows_per_group=2 * ROWS_PER_GROUP),
        Slice("actors", ("user_id", *_KIND)),
        Slice("address_hours", ("client_ip", *_KIND, "app_id"), HOUR_S, True, ROWS_PER_GROUP),
        Slice(
            "everything", ("client_ip", *_KIND, "user_id", "app_id", "session"), rows_per_group=ROWS_SORTED
        ),
        Slice(
            "administration",
            ("user_id", *_KIND, "client_ip", "app_id"),
            HOUR_S,
            only=IS_ADMINISTRATION,
        ),
    ),
)
"""Every record: what anybody did in an hour, from one address, with one application."""
SIGN_INS = Rollup(
    "sign_ins",
    SIGN_IN_MADE_OF,
    only=IS_SIGN_IN,
    told=_SIGN_IN_TOLD,
    derived=SIGN_IN_DERIVED,
    grain_s=1,
    slices=(
        Slice("sign_in_hours", _KIND, HOUR_S, is_small=True),
        Slice("sign_in_app_hours", ("app_id", *_KIND), HOUR_S, is_small=True),
        Slice("sign_in_browsers", ("browser_name", "system", "app_id", *_KIND)),
        Slice("sign_in_errors", ("user_id", *_KIND, "error")),
        Slice(
            "sign_in_sessions",
            ("user_id", *_KIND, "session", "client_ip", "network", "system", "agent", "browser_name", "way"),
        ),
        Slice("sign_in_place_hours", ("client_ip", *_KIND), HOUR_S, True, ROWS_PER_GROUP),
        Slice("sign_in_ends", ("client_ip", *_KIND, "error", "user_id"), DAY_S, True, ROWS_PER_GROUP),
        Slice(
            "sign_in_apps",
            (
                *("app_id", *_KIND, "user_id", "session", "error", "way"),
                *("client_ip", "network", "system", "agent", "browser_name"),
            ),
        ),
    ),
)
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
IS_MARKED = "marked"
"""Changes that stand out: a few of all."""
IS_NAMING = (
    "record_type = 8 AND (operation IN ('Add service principal.', 'Consent to application.')"
    " OR starts_with(lower(object), 'application_'))"
)
"""Changes that say what an application is called."""
IS_BY_OUTSIDER = "by_outsider"
"""Changes of which Exchange itself says that somebody from outside made them."""
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
    {
        **MADE_OF,
        "object": "coalesce(object_id, '')",
        "record": "id",
        "guest": (f"lower({_told(1)}) IN ('guest', 'partner') OR contains(lower({_told(2)}), '#ext#')"),
        "anonymous": f"starts_with(lower(operation), 'anonymouslink') OR contains({_told(2)}, '.Anonymous')",
        "domain": f"regexp_extract(replace(lower({_told(2)}), '#ext#', ''), '[@_]([^@_]+)$', 1)",
        "forwards": (
            "regexp_matches(raw, '\"(Forwarding(Smtp)?Address|DeliverToMailboxAndForward|AutoForwardEnabled"
            "|AutoForwardingMode)\"')"
        ),
        "verdict": f"left({_told(3)}, 200)",
        "sender": f"lower(left({_told(4)}, 200))",
        "recipient": f"lower(left({_told(5)}, 200))",
        "host": f"left({_told(6)}, 200)",
        "sensitive": (
            "contains(raw, 'SensitivityLabelId') OR contains(raw, '\"JailbreakDetected\":true')"
            " OR contains(raw, '\"XPIADetected\":true')"
        ),
        "marked": MARKED,
        "by_outsider": """regexp_matches(raw, '"ExternalAccess"\\s*:\\s*"?[Tt]rue')""",
        "raw": "raw",
    },
    only=f"({IS_CHANGE})",
    told=(
        *("$.TargetUserOrGroupType", "$.TargetUserOrGroupName", "$.PolicyAction", "$.P2Sender"),
        *("$.Recipients[0]", "$.CopilotEventData.AppHost"),
    ),
    rows_per_group=2_048,
    grain_s=1,
    order=("record_type", "operation", "user_id"),
    slices=(
        Slice(
            "change_days",
            (
                *("record_type", *(one for one in _KIND if one != "record_type"), "user_id", "client_ip"),
                *("app_id", "guest", "anonymous", "domain", "forwards", "verdict", "sender", "recipient"),
                *("host", "sensitive", "marked"),
            ),
            rows_per_group=ROWS_PER_GROUP,
        ),
        Slice(
            "marked_changes",
            (
                *("record_type", *(one for one in MADE_OF if one != "record_type"), "object", "record"),
                *("guest", "anonymous", "forwards", "sensitive", "marked", "raw"),
            ),
            1,
            only=IS_MARKED,
            rows_per_group=2_048,
            sorted_by=2,
        ),
        Slice(
            "outsider_changes",
            ("record_type", *(one for one in MADE_OF if one != "record_type"), "object", "by_outsider"),
            HOUR_S,
            only=IS_BY_OUTSIDER,
        ),
        Slice(
            "app_names",
            ("operation", "tenant_id", "record_type", "object", "record", "raw"),
            1,
            only=IS_NAMING,
            rows_per_group=2_048,
        ),
    ),
)
"""Changes one by one, with their own text: a table of them reads no other record."""
_IS_FOREIGN = "logon IN ('1', '2') OR (mailbox <> '' AND contains(user_id, '@') AND mailbox <> user_id)"
"""Whether somebody was in a mailbox that is not their own."""
IS_FOREIGN = "is_foreign"
IS_DELETION = "lower(operation) = 'harddelete'"
_OF_READING = ("is_read", "user_id", "tenant_id", "workload", "outcome", "app_id", "access")
MAILBOXES = Rollup(
    "mailboxes",
    {
        **MADE_OF,
        "mailbox": f"lower({_told(1)})",
        "logon": f"left({_told(2)}, 4)",
        "access": f"left({_named(3, 'MailAccessType')}, 12)",
        "throttled": f"lower(left({_named(3, 'IsThrottled')}, 5))",
        "program": f"left(regexp_extract({_told(4)}, '^(Client=)?([^;]*)', 2), 60)",
        "folder": f"left(coalesce(nullif({_told(5)}, ''), {_told(6)}), 120)",
    },
    only="record_type IN (2, 3, 50)",
    told=(
        *("$.MailboxOwnerUPN", "$.LogonType", "$.OperationProperties", "$.ClientInfoString"),
        *("$.Folders[0].Path", "$.Folder.Path"),
    ),
    derived={
        "is_read": "starts_with(lower(operation), 'mailitemsaccessed')",
        "is_foreign": _IS_FOREIGN,
    },
    slices=(
        Slice(
            "reading_hours",
            (*_KIND, "app_id", "access", "throttled", "logon", "is_foreign"),
            HOUR_S,
            is_small=True,
        ),
        Slice("reading_places", (*_OF_READING, "client_ip"), rows_per_group=ROWS_SORTED, sorted_by=2),
        Slice(
            "reading_folders", (*_OF_READING, "program", "folder"), rows_per_group=ROWS_SORTED, sorted_by=2
        ),
        Slice(
            "mailbox_days",
            ("user_id", *_KIND, "app_id", "mailbox", "logon", "access", "throttled", "is_foreign"),
        ),
        Slice(
            "mailbox_places",
            (
                *("client_ip", *_KIND, "app_id", "user_id", "mailbox", "logon", "access", "throttled"),
                *("program", "folder", "is_read", "is_foreign"),
            ),
            DAY_S,
            True,
            ROWS_PER_GROUP,
        ),
        Slice(
            "reading_place_hours",
            ("client_ip", *_KIND, "access", "throttled", "logon"),
            HOUR_S,
            True,
            ROWS_PER_GROUP,
        ),
        Slice(
            "foreign",
            ("user_id", *_KIND, "client_ip", "app_id", "mailbox", "logon", "program", "is_foreign"),
            HOUR_S,
            only=IS_FOREIGN,
        ),
        Slice(
            "deletions",
            ("user_id", *_KIND, "client_ip", "app_id", "mailbox"),
            HOUR_S,
            only=IS_DELETION,
        ),
    ),
)
"""What was done in mailboxes: in whose, as whom, with which program, in which folder."""
_DEED = (
    "CASE WHEN regexp_matches(lower(operation), '^file(syncdownloaded|downloaded)') THEN 'download'"
    " WHEN regexp_matches(lower(operation), '^file(syncuploaded|uploaded)') THEN 'upload'"
    " WHEN regexp_matches(lower(operation), '^(file|folder|list|site).*(deleted|recycled)') THEN 'deletion'"
    " WHEN lower(operation) = 'filemalwaredetected' THEN 'malware' ELSE '' END"
)
_USE = ("tenant_id", "workload", "outcome", "deed")
FILES = Rollup(
    "files",
    {
        **MADE_OF,
        "site": f"lower(rtrim(left({_told(1)}, 200), '/'))",
        "extension": f"lower(left({_told(2)}, 20))",
        "agent": f"left({_told(3)}, 120)",
    },
    only="record_type IN (4, 6, 14, 36)",
    told=("$.SiteUrl", "$.SourceFileExtension", "$.UserAgent"),
    derived={"program": _BROWSER, "deed": _DEED},
    slices=(
        Slice("file_hours", (*_KIND, "deed"), HOUR_S, is_small=True),
        Slice("file_persons", ("user_id", *_USE)),
        Slice("file_sites", ("site", *_USE, "user_id")),
        Slice("file_places", ("client_ip", *_USE, "user_id")),
        Slice("file_kinds", ("extension", "program", *_USE, "user_id")),
        Slice(
            "file_days",
            ("user_id", *_KIND, "deed", "site", "client_ip", "extension", "program", "app_id"),
        ),
        Slice(
            "file_place_days",
            ("client_ip", *_KIND, "deed", "site", "user_id", "extension", "program", "app_id"),
            DAY_S,
            True,
            ROWS_PER_GROUP,
        ),
    ),
)
"""What was done with files, pages and lists: on which site, to which kind of file, with which program."""
RECORDS = Rollup("records", MADE_OF)
"""No rollup at all: every record by itself, with all columns."""
TRACES = Rollup(
    "traces",
    {
        **MADE_OF,
        "session": COMPARED["session"],
        "object": "coalesce(object_id, '')",
        "record": "id",
        "raw": "raw",
        "owner": f"lower({_told(1)})",
        "app_session": f"regexp_extract(lower({_told(2)}), '^[0-9a-f-]{{36}}$')",
        "device_session": f"lower({_named(3, 'SessionId')})",
    },
    told=("$.MailboxOwnerUPN", "$.AppAccessContext.AADSessionId", "$.DeviceProperties"),
)
"""Every record by itself, and what it is about; its own text is read where a query names what is made so."""
KEPT = (ACTIVITY, SIGN_INS, CHANGES, MAILBOXES, FILES)
"""Those that are kept on disk, each with its slices."""
