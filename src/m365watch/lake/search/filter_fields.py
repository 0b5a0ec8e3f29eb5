"""The fields that a filter can ask for: names, kinds, and how each is made of a row of `audit`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum

from m365watch.lake.rollups.facts import MADE_OF
from m365watch.lake.views import quote_text

RAW = "raw."
"""What a field of the record itself begins with: raw.ClientInfoString."""
_PATH = re.compile(r"[A-Za-z_][\w$-]*(\.[A-Za-z_0-9][\w$-]*){0,5}", re.ASCII)
_ALIKE = 0.6


class Kind(StrEnum):
    """How the values of a field are compared."""

    TEXT = "text"
    """Whole, without regard to case."""
    PERSON = "person"
    """The same; what stands before @ is enough."""
    ADDRESS = "address"
    """An address, a network (10.0.0.0/8), or the text that stands there."""
    NUMBER = "number"
    """A whole number."""
    RESULT = "result"
    """ok, failed, or the word that the record has."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field."""

    name: str
    kind: Kind
    sql: str
    """Its value in lower case, or its number, for a row of `audit`; text is never null."""
    says: str = ""
    others: tuple[str, ...] = ()
    """Further names."""
    reads_raw: bool = False


def _low(column: str) -> str:
    return f"lower(coalesce({column}, ''))"


FIELDS = (
    Field("user", Kind.PERSON, MADE_OF["user_id"], "who did it: ann, or ann@contoso.example", ("userid",)),
    Field("operation", Kind.TEXT, _low("operation"), "what was done: New-InboxRule", ("op",)),
    Field("ip", Kind.ADDRESS, MADE_OF["client_ip"], "from where: an address, or 10.0.0.0/8", ("clientip",)),
    Field("result", Kind.RESULT, MADE_OF["outcome"], "ok, failed, or the record's own word"),
    Field("workload", Kind.TEXT, _low("workload"), "Exchange, SharePoint, AzureActiveDirectory ..."),
    Field("object", Kind.TEXT, _low("object_id"), "what it was done to: *invoice*", ("objectid",)),
    Field("app", Kind.TEXT, MADE_OF["app_id"], "the application's id", ("appid", "application")),
    Field("session", Kind.TEXT, _low("session_id"), "the session's id", ("sessionid",)),
    Field("type", Kind.NUMBER, "record_type", "the number of the record type", ("recordtype",)),
    Field("usertype", Kind.NUMBER, "user_type", "the number of the user type: 0 regular, 2 administrator"),
    Field("tenant", Kind.TEXT, MADE_OF["tenant_id"], "the tenant's id", ("tenantid",)),
    Field("id", Kind.TEXT, _low("id"), "the record's own id"),
    Field("feed", Kind.TEXT, _low("content_type"), "the feed it came by: Audit.Exchange", ("contenttype",)),
    Field("table", Kind.TEXT, _low("devo_table"), "Devo's name of its table"),
)
_BY_NAME = {name: one for one in FIELDS for name in (one.name, *one.others)}


def field_named(name: str) -> Field | None:
    """The field of that name, in any case; `raw.` and a path is a field of the record itself."""
    if name.lower().startswith(RAW):
        path = name[len(RAW) :]
        return _raw_field(path) if _PATH.fullmatch(path) else None
    return _BY_NAME.get(name.lower())


def nearest_name(name: str) -> str:
    """The name that was perhaps meant; empty where none is near."""
    near = difflib.get_close_matches(name.lower(), _BY_NAME, 1, _ALIKE)
    return near[0] if near else ""


def _raw_field(path: str) -> Field:
    """A field of the record; of a list of names and values, the value under the last name."""
    steps = path.split(".")
    pointed = quote_text("$" + "".join(f'."{step}"' for step in steps))
    found = [f"try(raw->>{pointed})"]
    if len(steps) > 1:
        above = quote_text("$" + "".join(f'."{step}"' for step in steps[:-1]))
        shape = quote_text('[{"Name":"VARCHAR","Value":"VARCHAR"}]')
        named = f"from_json(try(raw->{above}), {shape})"
        found.append(f"try(list_filter({named}, lambda one: one.Name = {quote_text(steps[-1])})[1].Value)")
    # Most records have no such field; to see that is much cheaper than to read them as JSON.
    named_so = quote_text(f'"{steps[-1]}"')
    value = f"CASE WHEN contains(raw, {named_so}) THEN lower(coalesce({', '.join(found)}, '')) ELSE '' END"
    return Field(f"{RAW}{path}", Kind.TEXT, value, reads_raw=True)
