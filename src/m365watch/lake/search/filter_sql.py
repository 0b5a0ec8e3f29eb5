"""Terms become a condition of SQL on rows of `audit`; what somebody typed is bound, never written in."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from m365watch.common.errors import FilterRefused
from m365watch.lake.schema import COMPARED, Kind
from m365watch.lake.search.filter_fields import Field
from m365watch.lake.search.filter_parser import About, Every, Holds, Match, Not, Some, Term, Wanted
from m365watch.records.derived_values import plain_address

_OWNER = "try(json_extract_string(raw, '$.MailboxOwnerUPN'))"
_GIVEN = "try(json_extract_string(raw, '$.Parameters'))"
_NAMED = r"""'"name"\s*:\s*"(identity|mailbox)"\s*,\s*"value"\s*:\s*"([^"]*)"'"""

ABOUT = ("session", "mailbox", "site")
"""What a record can be about."""


def mention_sql(name: str, *, value: str, made: dict[str, str]) -> str:
    """The condition that a record is about `value`, which is bound in lower case, by the name in `ABOUT`.

    `made` says how `object` and, in lower case, `session` are made of a row; `raw`, `workload` and
    `record_type` are columns of it.
    """
    if name == "session":
        return f"({made['session']} = {value} OR contains(lower(raw), {value}))"
    if name == "site":
        return f"(workload IN ('SharePoint', 'OneDrive') AND contains(lower({made['object']}), {value}))"
    return _in_mailbox(value, made["object"])


def shown_mention_sql(name: str, *, value: str) -> str:
    """The same, of what is shown of a record to whoever sees no contents: its own text has no part in it.

    `owner`, `app_session` and `device_session` stay of it, and `object` is as it is shown. What was
    set on a mailbox only that text or a target says, which may be a rule's name too: it is not found.
    """
    if name == "session":
        return f"({value} IN (session, app_session, device_session))"
    if name == "mailbox":
        return f"(workload = 'Exchange' AND owner = {value})"
    return mention_sql(name, value=value, made={"object": "object"})


def _in_mailbox(value: str, target: str) -> str:
    """What was done in the mailbox, by whomever, and what was set on it.

    What else its owner did is not, nor what else has the address in it. Cmdlets name it by its address, or by
    the last part of a path.
    """
    box = f"nullif(split_part({value}, '@', 1), '')"
    about = rf"regexp_extract(lower({target}), '([^/\\]+)(\\[^/]*)?$', 1)"
    set_on = f"{about} = {box} OR regexp_extract(lower({_GIVEN}), {_NAMED}, 2) = {value}"
    return (
        f"(workload = 'Exchange' AND contains(lower(raw), {box})"
        f" AND (lower({_OWNER}) = {value} OR (record_type = 1 AND ({set_on}))))"
    )


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_GROUPS = 8
_GROUP_BITS = 16


def in_network(column: str, network: Network) -> str:
    """Whether the address in `column`, in lower case, is in the network; other texts are not."""
    if isinstance(network, ipaddress.IPv4Network):
        return _in_v4(column, network)
    return _in_v6(column, network)


def _in_v4(column: str, network: ipaddress.IPv4Network) -> str:
    whole, rest = divmod(network.prefixlen, 8)
    octets = str(network.network_address).split(".")
    parts = []
    if whole == len(octets):
        return f"{column} = '{network.network_address}'"
    if whole:
        parts.append(f"starts_with({column}, '{'.'.join(octets[:whole])}.')")
    if rest:
        first = int(octets[whole])
        last = first + (1 << 8 - rest) - 1
        octet = f"try_cast(split_part({column}, '.', {whole + 1}) AS USMALLINT)"
        parts.append(f"{octet} BETWEEN {first} AND {last}")
    parts.append(rf"regexp_full_match({column}, '(\d{{1,3}}\.){{3}}\d{{1,3}}')")
    return f"({' AND '.join(parts)})"


def _in_v6(column: str, network: ipaddress.IPv6Network) -> str:
    whole, rest = divmod(network.prefixlen, _GROUP_BITS)
    wanted = [f"{int(one, 16):x}" for one in network.network_address.exploded.split(":")]
    groups = _groups_of(column)
    parts = [f"contains({column}, ':')"]
    parts += [f"{groups}[{place + 1}] = '{wanted[place]}'" for place in range(whole)]
    if rest:
        first = int(wanted[whole], 16)
        last = first + (1 << _GROUP_BITS - rest) - 1
        number = f"try_cast('0x' || {groups}[{whole + 1}] AS UINTEGER)"
        parts.append(f"{number} BETWEEN {first} AND {last}")
    return f"({' AND '.join(parts)})"


def _groups_of(column: str) -> str:
    """The eight groups of an address, those that `::` stands for as zeros."""
    left, right = (f"string_split(split_part({column}, '::', {place}), ':')" for place in (1, 2))
    left, right = (f"list_filter({one}, lambda part: part <> '')" for one in (left, right))
    zeros = f"list_resize([]::VARCHAR[], greatest({_GROUPS} - len({left}) - len({right}), 0)::BIGINT, '0')"
    return f"({left} || {zeros} || {right})"


_OUTCOMES = frozenset({"ok", "failed"})
_RESULT = "lower(coalesce(result, ''))"
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_NUMBER_MAX = 2**31 - 1
NUL = "\x00"
_MADE_OF = {"object": "coalesce(object_id, '')", "session": COMPARED["session"]}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on rows of `audit`."""

    sql: str = "true"
    bound: dict[str, str | int] = field(default_factory=dict)
    reads_raw: bool = False
    """Whether the records' own texts have to be read for it."""
    words: tuple[Wanted, ...] = ()
    """What is looked for in these texts, to be shown where it stands."""


def condition_of(term: Term | None) -> Condition:
    """The condition that `term` says.

    Raises: FilterRefused: a value is not what its field has.
    """
    if term is None:
        return Condition()
    writer = _Writer({})
    sql = writer.sql(term)
    return Condition(sql, writer.bound, any(map(_reads_raw, leaves_of(term))), tuple(_words(term)))


@dataclass(slots=True)
class _Writer:
    """The values that have been bound so far."""

    bound: dict[str, str | int]

    def sql(self, term: Term) -> str:
        match term:
            case Every(terms):
                return f"({' AND '.join(map(self.sql, terms))})"
            case Some(terms):
                return f"({' OR '.join(map(self.sql, terms))})"
            case Not(inner):
                return f"(NOT coalesce({self.sql(inner)}, false))"
            case Holds(words):
                return f"regexp_matches(raw, {self._bind(text_pattern(words))})"
            case About(name, value):
                return mention_sql(name, value=self._bind(_clean(value.text).lower()), made=_MADE_OF)
            case Match(of, values, within):
                return f"({' OR '.join(self._one(of, value, within=within) for value in values)})"

    def _bind(self, value: str | int) -> str:
        name = f"filter_{len(self.bound)}"
        self.bound[name] = value
        return f"${name}"

    def _one(self, of: Field, value: Wanted, *, within: bool) -> str:
        if of.kind is Kind.NUMBER:
            return self._number(of, value)
        if value.text == "*" and not value.is_quoted:
            return f"({of.sql} <> '')"
        if within:
            return f"regexp_matches({of.sql}, {self._bind('(?is)' + _glob(value))})"
        if of.kind is Kind.RESULT:
            wanted = of.sql if value.text.lower() in _OUTCOMES and not value.is_quoted else _RESULT
            return self._whole(wanted, value)
        if of.kind is Kind.ADDRESS:
            return self._address(of, value)
        if of.kind is Kind.PERSON and "@" not in value.text:
            return f"({self._whole(of.sql, value)} OR {self._whole(_before_at(of.sql), value)})"
        return self._whole(of.sql, value)

    def _whole(self, sql: str, value: Wanted) -> str:
        """The whole text, in which `*` may stand for anything."""
        if value.has_wildcard:
            return f"regexp_full_match({sql}, {self._bind('(?is)' + _glob(value))})"
        return f"{sql} = lower({self._bind(_clean(value.text))})"

    def _number(self, of: Field, value: Wanted) -> str:
        if value.text == "*" and not value.is_quoted:
            return f"({of.sql} IS NOT NULL)"
        is_number = value.text.isascii() and value.text.isdigit() and len(value.text) < 11
        if not is_number or int(value.text) > _NUMBER_MAX:
            example = 2 if of.name == "usertype" else 15
            raise FilterRefused(
                f"{of.name} is a whole number", at=value.at, fix=f"write {of.name}:{example}, say"
            )
        return f"coalesce({of.sql} = {self._bind(int(value.text))}, false)"

    def _address(self, of: Field, value: Wanted) -> str:
        if "/" in value.text:
            try:
                return in_network(of.sql, ipaddress.ip_network(value.text, strict=False))
            except ValueError:
                raise FilterRefused(
                    "this is no network", at=value.at, fix="write it as 10.0.0.0/8 or 2001:db8::/32"
                ) from None
        if value.has_wildcard:
            return self._whole(of.sql, value)
        plain = plain_address(value.text) or value.text
        return self._whole(of.sql, Wanted(plain, value.at, is_quoted=True))


def text_pattern(words: Wanted) -> str:
    """A pattern of RE2 for words in a record: as typed, and as JSON may write them, in any case."""
    forms = dict.fromkeys(
        (words.text, _in_json(words.text, ascii_only=False), _in_json(words.text, ascii_only=True))
    )
    patterns = [_glob(Wanted(one, 0, words.is_quoted), any_run='[^"]*') for one in forms]
    return f"(?is)(?:{'|'.join(patterns)})"


def _in_json(text: str, *, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _glob(value: Wanted, *, any_run: str = ".*") -> str:
    """The text as a pattern of RE2."""
    parts = value.text.split("*") if value.has_wildcard else [value.text]
    return any_run.join(_SPECIAL.sub(r"\\\g<0>", _clean(part)) for part in parts)


def _clean(text: str) -> str:
    """What a column can hold: no lone surrogate, which is no text at all."""
    return text.encode("utf-8", "replace").decode().replace(NUL, "\\x00")


def _before_at(sql: str) -> str:
    return f"split_part({sql}, '@', 1)"


def leaves_of(term: Term) -> Iterator[Match | Holds | About]:
    """Every test that the term makes."""
    match term:
        case Every(terms) | Some(terms):
            for one in terms:
                yield from leaves_of(one)
        case Not(inner):
            yield from leaves_of(inner)
        case Match() | Holds() | About():
            yield term


def _reads_raw(leaf: Match | Holds | About) -> bool:
    return not isinstance(leaf, Match) or leaf.field.reads_raw


def _words(term: Term) -> Sequence[Wanted]:
    """The words that a record has to hold, and none that it must not."""
    match term:
        case Every(terms) | Some(terms):
            return [words for one in terms for words in _words(one)]
        case Holds(words):
            return [words]
        case _:
            return []
