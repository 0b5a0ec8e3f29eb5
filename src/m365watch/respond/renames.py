"""Inbox rules that are called otherwise by now, as the records of one alert tell it.

A rule is found by its name, and two rules of a mailbox may have the same one: once the intruder's has given
a name up, what is called so is its owner's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from m365watch.detect.derived.operation import normalise_operation
from m365watch.respond.quoting import is_account
from m365watch.values import dataclass

BY_NAME = ("Parameters.Name", "OperationProperties.RuleName")
"""Fields with what a record calls the rule."""
_OF_MAILBOX = ("Parameters.Mailbox", "MailboxOwnerUPN", "m365.mailbox_alias", "UserId")
_OUTLOOK_ID = "OperationProperties.RuleId"


@dataclass(frozen=True, slots=True)
class Renamed:
    """What became of a name."""

    to: str
    """How the rule is called by now that had it."""
    is_certain: bool
    """Whether none of the alert's can be called so any more."""


def names_in(records: Iterable[Mapping[str, str]], mailbox: str) -> Names:
    """What became of the names of the mailbox's rules."""
    names = Names()
    for record in records:
        if _may_be_of(record, mailbox):
            names.add(record)
    return names


class Names:
    """Names of the rules of one mailbox, record by record; each in small letters."""

    def __init__(self) -> None:
        """There is none at first."""
        self.given_up: dict[str, Renamed] = {}
        self.made: set[str] = set()
        """Of rules that the records made, under whichever name."""
        self._called: dict[str, str] = {}
        """By the number or id of a rule."""
        self._had: dict[str, None] = {}
        """All names so far, in small letters."""

    def add(self, record: Mapping[str, str]) -> None:
        """One record more, later than those before it."""
        name = next((record[one] for one in BY_NAME if record.get(one)), "")
        if not name:
            return
        known = [one for one in self._before(record) if one]
        if _makes(record) or any(before.lower() in self.made for before in known):
            self.made.add(name.lower())
        for before in known:
            self._give_up(before, name, is_certain=True)
        if not known and not _makes(record) and name.lower() not in self._had:
            for before in self._had:
                self._give_up(before, name, is_certain=False)
        if taken_again := self.given_up.pop(name.lower(), None):
            # Records of one second have no order: which of the two is called so is not certain.
            self.given_up[name.lower()] = Renamed(taken_again.to, is_certain=False)
        self._had.setdefault(name.lower())
        for number in _numbers_in(record):
            self._called[number] = name

    def _before(self, record: Mapping[str, str]) -> list[str]:
        """How the rule may have been called until then; nothing where no record told it."""
        if _makes(record):
            return []
        identity = record.get("Parameters.Identity", "")
        rest = identity.partition("\\")[2] or identity
        named = [] if rest.isdecimal() else [identity, rest]
        return [*named, *(self._called.get(number, "") for number in _numbers_in(record))]

    def _give_up(self, before: str, name: str, *, is_certain: bool) -> None:
        if before.lower() == name.lower():
            return
        for formerly, renamed in self.given_up.items():
            if is_certain and renamed.to.lower() == before.lower():
                self.given_up[formerly] = Renamed(name, renamed.is_certain)
        if is_certain or before.lower() not in self.given_up:
            self.given_up[before.lower()] = Renamed(name, is_certain)


def _makes(record: Mapping[str, str]) -> bool:
    operation = normalise_operation(record.get("Operation", ""))
    made = record.get("OperationProperties.RuleOperation", "").lower().startswith("add")
    return operation == "new-inboxrule" or made


def _numbers_in(record: Mapping[str, str]) -> list[str]:
    """By which Exchange and Outlook know the rule, however it is called."""
    ends = (record.get(one, "").rpartition("\\")[2] for one in ("Parameters.Identity", "ObjectId"))
    numbers = [one for one in ends if one.isdecimal()]
    return [*numbers, f"outlook {record[_OUTLOOK_ID]}"] if record.get(_OUTLOOK_ID) else numbers


def _may_be_of(record: Mapping[str, str], mailbox: str) -> bool:
    """Two addresses tell two mailboxes apart; a name or a number may be any's."""
    of = next((record[one] for one in _OF_MAILBOX if record.get(one)), "")
    return of.lower() == mailbox.lower() or not all(is_account(one) and "@" in one for one in (of, mailbox))
