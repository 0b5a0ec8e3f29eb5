"""Inbox rules that were called otherwise, as their records tell it.

A rule is found by its name, and two rules of a mailbox may have the same one: once the intruder's has given
a name up, what is called so is its owner's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.fields.operations import normalise_operation
from m365watch.response.steps.command_escaping import is_account

Record = Mapping[str, str]

BY_NAME = ("Parameters.Name", "OperationProperties.RuleName")
"""Fields with what a record calls the rule."""
_OF_MAILBOX = ("Parameters.Mailbox", "MailboxOwnerUPN", "m365.mailbox_alias", "UserId")
_OUTLOOK_ID = "OperationProperties.RuleId"
_ALIAS = re.compile(r"[\w.'-]*[^\W\d][\w.'-]*")


@dataclass(frozen=True, slots=True)
class Renamed:
    """What became of a name."""

    rule: KnownRule
    """The one that had it, and was called otherwise after."""
    is_certain: bool
    """Whether none of the alert's can be called so any more."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a record was created, and whose it is."""

    at_s: int
    alert: str = ""
    """The first digits of the alert's id that found it; empty where that is not known."""
    is_own: bool = True
    """Whether the alert itself has it, and not one beside it."""

    def __str__(self) -> str:
        """The same in words."""
        told = f"at {instant_of_ms(self.at_s * 1_000):%Y-%m-%d %H:%M}Z"
        return f"{told} (alert {self.alert})" if self.alert else told


def names_in(told: Sequence[tuple[Record, Moment]], mailbox: str) -> Names:
    """What became of the names of the mailbox's rules, of records in their order."""
    names = Names()
    known = _names_of_mailbox((record for record, _ in told), mailbox)
    for record, at in told:
        named = _mailbox_of(record)
        is_its = _is_of(named, mailbox, known)
        if is_its is not False:
            names.add(record, at, of="" if is_its else named)
    return names


class KnownRule:
    """One rule that the records tell of, by whatever it was called."""

    def __init__(self, record: Record, name: str, at: Moment, of: str) -> None:
        self.name = name
        self.since = at
        """When a record gave it the name that it has."""
        self.is_typed = not _name_in(record)
        """Whether none did, so that it may be spelt in other capitals: cmdlets take it in either case."""
        self.first = at
        self.got_at_s = {name: at.at_s}
        """By the names that a record gave it."""
        self.seen_at_s = at.at_s
        self.given_up_at_s: dict[str, int] = {}
        """By its former names."""
        self.mailbox = of
        """Empty where it is the one that is asked for; else what may be that one by another name."""
        self.is_own = False
        """Whether one of the alert's own records tells of it."""
        self.is_made = _makes(record)
        self.called = _identities(record)
        """The names by which its first record has it, in small letters; none where that has a number."""
        self.numbers = _numbers_in(record)
        self.records = [record]
        """What became of it, the earliest first."""

    def add(self, record: Record, name: str, at: Moment) -> None:
        """One record of it more, later than those before it."""
        self.seen_at_s = at.at_s
        self.numbers |= _numbers_in(record)
        self.records.append(record)
        is_given = bool(_name_in(record))
        if is_given and self.is_typed and name.lower() == self.name.lower():
            self.got_at_s[name] = self.got_at_s.pop(self.name)
            self.name = name
        self.is_typed &= not is_given
        if name != self.name:
            self.given_up_at_s.pop(name, None)
            self.given_up_at_s[self.name] = at.at_s
            self.got_at_s[name] = at.at_s
            self.name = name
            self.since = at

    @property
    def was_there(self) -> bool:
        """Whether it was changed, and none of the records made it."""
        return not self.is_made and any(map(_changes, self.records))

    def gave_up_for_certain(self, name: str) -> bool:
        """Whether it, a rule of this mailbox, can be called so no more.

        Records of one second have no order: which of two it came to last is not certain then.
        """
        return not self.mailbox and self.given_up_at_s.get(name) != self.got_at_s.get(name, -1)

    def may_be(self, other: KnownRule) -> bool:
        """Whether it, which no record made, is the other one by what is known of both."""
        if self.is_made or self is other or self.seen_at_s < other.got_at_s[other.name]:
            return False
        if not self.called:
            return not _differ(self.numbers - {other.name}, other.numbers)
        names = {one.lower() for one in (other.name, *other.given_up_at_s)}
        return self.mailbox != other.mailbox and not names.isdisjoint(self.called)


class Names:
    """Names of the rules of one mailbox, record by record."""

    def __init__(self) -> None:
        """There is none at first."""
        self._places: dict[KnownRule, int] = {}
        """Of each rule, the later ones higher."""
        self._by_name: dict[str, list[KnownRule]] = {}
        """By whatever a rule was called at some time, in small letters."""
        self._by_number: dict[str, list[KnownRule]] = {}
        self._by_record: dict[int, KnownRule] = {}
        self._taken: set[KnownRule] = set()
        self._unnamed: list[KnownRule] = []
        """Those that were there before, and that their first record has by a number."""

    def add(self, record: Record, at: Moment, *, of: str = "") -> None:
        """One record more, later than those before it; `of` names a mailbox that may be this one."""
        name = _name_in(record)
        identities = _identities(record, as_told=True)
        rule = self._find(record, name, of)
        if rule is not None:
            rule.add(record, name or rule.name, at)
        elif name or identities:
            rule = KnownRule(record, name or identities[-1], at, of)
            rule.given_up_at_s = {one: at.at_s for one in identities if name not in ("", one)}
            self._places[rule] = len(self._places)
            self._unnamed += [] if rule.is_made or rule.called else [rule]
        else:
            return
        rule.is_own |= at.is_own
        self._by_record[id(record)] = rule
        for called in {one.lower() for one in (rule.name, *identities)}:
            self._by_name.setdefault(called, []).append(rule)
        for number in _numbers_in(record):
            self._by_number.setdefault(number, []).append(rule)

    def rules_of(self, name: str, records: Iterable[Record]) -> list[KnownRule]:
        """The mailbox's that are called so by now; where none is, those of which the records tell."""
        called = [rule for rule in self._holders_of(name) if not rule.mailbox]
        return called or self._told_in(records)

    def rule_in(self, records: Iterable[Record]) -> KnownRule | None:
        """The one of which these tell; None where that, or that it is one of this mailbox, is not certain."""
        told = self._told_in(records)
        return told[0] if len(told) == 1 and not told[0].mailbox else None

    def take(self, rule: KnownRule) -> bool:
        """Whether it is asked for first: of a thousand records of a rule one alone has its steps."""
        is_first = rule not in self._taken
        self._taken.add(rule)
        return is_first

    def _told_in(self, records: Iterable[Record]) -> list[KnownRule]:
        told = (self._by_record[id(one)] for one in records if id(one) in self._by_record)
        return [*dict.fromkeys(told)]

    def is_shared(self, name: str) -> bool:
        """Whether the records have more than one rule of this mailbox that is, or was, called so.

        In either case: of two that differ in that alone no record tells which one a cmdlet took.
        """
        every = (rule for rule in self._once_called(name) if not rule.mailbox)
        return sum(rule.name.lower() == name.lower() or _gave_up(rule, name) for rule in every) > 1

    def is_held(self, name: str) -> bool:
        """Whether one of the alert's is called so."""
        return bool(self._holders_of(name))

    def became(self, name: str) -> Renamed | None:
        """What became of it; None where one of the alert's is called so."""
        once, holders = self._once_called(name), self._holders_of(name)
        certain = [rule for rule in holders if not rule.mailbox]
        givers = [rule for rule in once if name in rule.given_up_at_s]
        if not givers and not holders:
            # An identity is the same in either case.
            givers = [rule for rule in once if _gave_up(rule, name)]
        if not certain:
            sure = [rule for rule in givers if rule.gave_up_for_certain(name)]
            return Renamed((sure or givers)[-1], bool(sure)) if givers else None
        former = {one for rule in certain for one in rule.given_up_at_s}
        doubted = [
            rule
            for rule in self._in_order((*self._once_called(name, *former), *self._unnamed))
            if rule.name != name and all(_may_have_become(rule, holder, name) for holder in certain)
        ]
        return Renamed(doubted[-1], is_certain=False) if doubted else None

    def _holders_of(self, name: str) -> list[KnownRule]:
        """The alert's that are called so by now: what only others tell of may be the owner's."""
        return [rule for rule in self._once_called(name) if rule.name == name and rule.is_own]

    def _once_called(self, *names: str) -> list[KnownRule]:
        return self._in_order(rule for one in names for rule in self._by_name.get(one.lower(), ()))

    def _in_order(self, rules: Iterable[KnownRule]) -> list[KnownRule]:
        """Each once, the earliest first."""
        return sorted({*rules}, key=self._places.__getitem__)

    def _find(self, record: Record, name: str, of: str) -> KnownRule | None:
        """The rule that a record tells of, where that is known; of several the latest.

        What is made is a new one, unless it has a number that is known.
        """
        numbers = _numbers_in(record)
        by_number = (rule for one in numbers for rule in self._by_number.get(one, ()))
        called = _identities(record)
        # Outlook on the web has it by its number, and sends the name with every change.
        by_name = [
            rule
            for rule in self._once_called(*(called or [name]))
            if not _makes(record) and (rule.name.lower() in called if called else rule.name == name)
        ]
        open_to_it = (rule for rule in by_name if not _differ(rule.numbers, numbers))
        known = (*reversed(self._in_order(by_number)), *reversed([*open_to_it]))
        return next((rule for rule in known if rule.mailbox == of), None)


def _name_in(record: Record) -> str:
    """The name that a record gives a rule; empty where it gives none."""
    return next((record[one] for one in BY_NAME if record.get(one)), "")


def _gave_up(rule: KnownRule, name: str) -> bool:
    return name.lower() in {one.lower() for one in rule.given_up_at_s}


def _may_have_become(rule: KnownRule, holder: KnownRule, name: str) -> bool:
    """Whether the holder of that name may be called as this rule is by now."""
    return rule.may_be(holder) or rule.given_up_at_s.get(name) == holder.got_at_s[name]


def _changes(record: Record) -> bool:
    return normalise_operation(record.get("Operation", "")) == "set-inboxrule"


def _makes(record: Record) -> bool:
    operation = normalise_operation(record.get("Operation", ""))
    made = record.get("OperationProperties.RuleOperation", "").lower().startswith("add")
    return operation == "new-inboxrule" or made


def _identities(record: Record, *, as_told: bool = False) -> list[str]:
    """The names by which a change has the rule: an identity is one, behind the mailbox, or, last, without."""
    identity = "" if _makes(record) else record.get("Parameters.Identity", "")
    rest = identity.partition("\\")[2] or identity
    if not rest or rest.isdecimal():
        return []
    return [one if as_told else one.lower() for one in (identity, rest)]


def _numbers_in(record: Record) -> frozenset[str]:
    """By which Exchange and Outlook know the rule, however it is called."""
    named = _name_in(record)
    identity = record.get("Parameters.Identity", "")
    by_object = record.get("ObjectId", "").partition("\\")[2]
    ends = (identity.partition("\\")[2] or identity, "" if by_object == named else by_object)
    numbers = {one for one in ends if one.isdecimal()}
    return frozenset(numbers | ({f"outlook {record[_OUTLOOK_ID]}"} if record.get(_OUTLOOK_ID) else set()))


def _differ(numbers: Iterable[str], others: Iterable[str]) -> bool:
    """Whether both are known by numbers of one kind, and by different ones."""
    return any(
        mine and theirs and not mine & theirs
        for of_outlook in (False, True)
        for mine, theirs in [
            [{one for one in every if one.startswith("outlook") is of_outlook} for every in (numbers, others)]
        ]
    )


def _mailbox_of(record: Record) -> str:
    return next((record[one] for one in _OF_MAILBOX if record.get(one)), "").lower()


def _is_address(name: str) -> bool:
    return "@" in name and is_account(name)


def _names_of_mailbox(records: Iterable[Record], mailbox: str) -> set[str]:
    """What Exchange calls the mailbox where a record has its address as well."""
    objects = (one.get("ObjectId", "") for one in records if _mailbox_of(one) == mailbox.lower())
    return {one.partition("\\")[0].rpartition("/")[2].lower() for one in objects} - {""}


def _is_of(named: str, mailbox: str, known: set[str]) -> bool | None:
    """Whether that names the mailbox; None where nobody can tell.

    Two addresses tell two mailboxes apart, and an alias an address whose own alias is known; whatever else
    Exchange takes, a name or a GUID, may be anybody's.
    """
    mailbox = mailbox.lower()
    before = mailbox.partition("@")[0]
    if named in (mailbox, before, *known) or named.partition("@")[0] == mailbox:
        return True
    is_other = before in known and _ALIAS.fullmatch(named)
    return False if is_other or (_is_address(named) and _is_address(mailbox)) else None
