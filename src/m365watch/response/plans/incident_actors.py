"""Who had a hand in what an alert joins by its time alone: whom to lock out, to ask about, and to leave.

An alert over records of no group joins what anybody did within a day. Tied together is what one account did
that had a hand both in how it began and in what followed. An intruder with two accounts does the one with
this and the other with that, and both come from one address: but so does everybody in one office, so that a
person decides about each. Of the others nothing but the day says that they have a part in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.alerts.alert_builder import split_line
from m365watch.detection.correlation.sliding_window import beginners_of
from m365watch.detection.rules.rule import Rule
from m365watch.response.plans.alert_evidence import Clues, gather_clues
from m365watch.response.steps.accounts import cidr_of

BegunBy = Callable[[str], Collection[str] | None]
"""The rules with which the story of a rule of that id begins: none where it has no order, None if unknown."""


@dataclass(frozen=True, slots=True)
class Hands:
    """The accounts of an alert, by what ties them to it."""

    tied: Clues
    """What the alert knows, of its accounts only those that are tied together, of addresses only theirs."""
    near: tuple[tuple[str, str], ...] = ()
    """Further accounts, each with the address that it shares with the other part of the story."""
    loose: tuple[str, ...] = ()
    """The rest."""


def sort_hands(alert: Alert, matches: Sequence[Match], begun_by: BegunBy) -> Hands:
    """Whom the alert is about, and whom it joins by their time alone.

    Where its rule has no order, every rule that it joins is a part of its own; where nothing is known of its
    rule any more, nobody is tied.
    """
    clues = gather_clues(alert, matches)
    named = clues.entity("user")
    if alert.group or len(named) < 2 or len({one.source_id for one in matches}) < 2:
        return Hands(clues)
    of_account, of_address = _parts(matches, begun_by(alert.rule_id))
    tied = tuple(one for one in named if len(of_account[one.lower()]) > 1)
    shared = [address for address, parts in of_address.items() if len(parts) > 1]
    near = {one: _first_shared(one, matches, shared) for one in named if one not in tied}
    known = tuple((one, address) for one, address in near.items() if address)
    loose = tuple(one for one, address in near.items() if not address)
    theirs = {one.lower() for one in (*tied, *(one for one, _ in known))}
    addresses = tuple(
        dict.fromkeys(one for match in matches if _who(match) in theirs for one in _addresses(match))
    )
    entities = {**clues.entities, "user": tied, "address": addresses}
    return Hands(replace(clues, entities=entities), known, loose)


def _parts(
    matches: Iterable[Match], begun_by: Collection[str] | None
) -> tuple[dict[str, set[object]], dict[str, set[object]]]:
    """By account, and by public address, the parts of the story that it had a hand in."""
    of_account: dict[str, set[object]] = defaultdict(set)
    of_address: dict[str, set[object]] = defaultdict(set)
    for match in matches if begun_by is not None else ():
        part: object = match.source_id in begun_by if begun_by else match.source_id
        of_account[_who(match)].add(part)
        for address in _addresses(match):
            if cidr_of(address):
                of_address[address].add(part)
    return of_account, of_address


def _first_shared(account: str, matches: Iterable[Match], shared: Collection[str]) -> str:
    own = (one for match in matches if _who(match) == account.lower() for one in _addresses(match))
    return next((one for one in own if one in shared), "")


def _who(match: Match) -> str:
    return match.values.get("UserId", "").lower()


def _addresses(match: Match) -> list[str]:
    line = match.values.get("m365.ip", "")
    return split_line(line) if line else []


def beginnings_in(rules: Mapping[str, Rule]) -> BegunBy:
    """What begins the stories of these rules, by their ids."""

    def begun_by(rule_id: str) -> Collection[str] | None:
        rule = rules.get(rule_id)
        if rule is None or rule.correlation is None:
            return None
        return beginners_of(rule.correlation)

    return begun_by
