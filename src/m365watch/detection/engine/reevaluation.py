"""What joins what has changed: alerts that others join, of late, are judged anew by the rules of today.

A correlation sees what it joins as it was when that was judged last. Where somebody has made the inner rule
stricter, an alert that is none any more would go on counting; where the outer one is new, or has another
group, what goes on already would not count. Where the inner rule is less strict, or so again, no alert says
that there is something to be joined: matches do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.correlation.period_rules import DAY_MS
from m365watch.detection.engine.group_tallies import Tallies, may_alert
from m365watch.detection.engine.purposes import group_of, links
from m365watch.detection.engine.unit_of_work import Work
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState

_PENDING = "pending"
_Waiting = tuple[str, str, tuple[str, ...], int, int]
_decode = msgspec.json.Decoder(list[_Waiting]).decode


class Pending:
    """The groups, each with the earliest and the latest time that has changed."""

    def __init__(self, waiting: Iterable[_Waiting] = ()) -> None:
        """Those that are waiting already."""
        self._times = {
            GroupKey(rule_id, tenant, group): (low_ms, high_ms)
            for rule_id, tenant, group, low_ms, high_ms in waiting
        }
        self._is_kept = True

    @classmethod
    def of(cls, state: DetectionState) -> Pending:
        """Those that the file says are waiting."""
        written = state.read(_PENDING)
        return cls(_decode(written)) if written else cls()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._times)

    def put(self, key: GroupKey, low_ms: int, high_ms: int) -> None:
        """Let a group wait."""
        known = self._times.get(key, (low_ms, high_ms))
        self._times[key] = (min(low_ms, known[0]), max(high_ms, known[1]))
        self._is_kept = False

    def keep(self, state: DetectionState) -> None:
        """Write down what waits; part of a transaction."""
        if not self._is_kept:
            rows = [(*key, *times) for key, times in self._times.items()]
            state.write(_PENDING, msgspec.json.encode(rows).decode())
            self._is_kept = True

    def doubt(self) -> None:
        """A transaction has failed: what it wrote down is not there."""
        self._is_kept = False

    def waiting(self) -> list[tuple[GroupKey, int, int]]:
        """All that wait, with their times."""
        return [(key, low_ms, high_ms) for key, (low_ms, high_ms) in self._times.items()]

    def keep_none(self, state: DetectionState) -> None:
        """Write down that none waits any more; part of the transaction in which they were judged."""
        if self._times:
            state.write(_PENDING, "")

    def clear(self) -> None:
        """That transaction is durable."""
        self._times.clear()
        self._is_kept = True


LATE_MS = DAY_MS
"""What follows an alert may come so late."""
GROUPS_MAX = 50_000
"""Groups of one rule that are looked at for what was no alert by other rules, the latest ones."""
GROUPS_AT_ONCE = 100
"""Of so many the matches are read together: a few thousand rows, and not those of a whole tenant."""
_JOINS = "joins"


class Rejoining:
    """What joins what, and whether the file was judged by that."""

    def __init__(self, rules: Sequence[Rule], state: DetectionState, tallies: Tallies) -> None:
        """`rules` are all that are in force."""
        self._state = state
        self._tallies = tallies
        self._reach_ms = _reach_ms(rules)
        self._joined = [rule for rule in rules if rule.id in self._reach_ms]
        said = [(rule.id, rule.correlation, rule.extension) for rule in rules]
        text = msgspec.json.encode(said, order="deterministic")
        self._joins = hashlib.blake2b(text, digest_size=16).hexdigest()

    def touch(self, work: Work) -> None:
        """Have judged again what is joined, where that was judged by other rules; part of a transaction."""
        if self._state.read(_JOINS) == self._joins:
            return
        for rule in self._joined:
            since_ms = work.now_ms - self._reach_ms[rule.id] - LATE_MS
            has_fields = bool(group_of(rule))
            for key, at_ms in self._state.alerts.list_times(
                rule.id, has_fields=has_fields, since_ms=since_ms
            ):
                work.touch(key, at_ms)
            found = self._state.matches.list_spans(
                rule.id, has_fields=has_fields, since_ms=since_ms, most=GROUPS_MAX
            )
            for at in range(0, len(found), GROUPS_AT_ONCE):
                some = found[at : at + GROUPS_AT_ONCE]
                self._tallies.load(key for key, _, _ in some)
                for key, first_ms, last_ms in some:
                    # Most have had a wrong password, and few so many that it can come to anything.
                    if may_alert(rule, self._tallies.count_in(key, [])):
                        work.touch(key, first_ms)
                        work.touch(key, last_ms)
        self._state.write(_JOINS, self._joins)


def _reach_ms(rules: Sequence[Rule]) -> Mapping[str, int]:
    """How long after its end an alert is still joined, by the rule that found it."""
    by_id = {rule.id: rule for rule in rules}
    found: dict[str, int] = {}
    for outer in rules:
        if outer.correlation is None:
            continue
        for source in outer.correlation.sources:
            if source in by_id and links(by_id[source]):
                found[source] = max(found.get(source, 0), outer.correlation.timespan_s * 1000)
    return found
