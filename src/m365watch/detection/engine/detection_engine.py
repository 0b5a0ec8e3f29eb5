"""Batches of records in, changes of alerts out; the same set of records gives the same alerts.

Truth is a set and not a sequence: whatever a batch brings, the groups that its matches can touch are
judged again from all that is kept of them. So neither order nor lateness, repetition or a crash can
change where it ends. What a record that came late moves or joins keeps its history: an alert that
disappears by it is `formerly` the one that takes its place, and is told as an update.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.alerts.alert_builder import (
    NO_EXCEPTIONS,
    make_alert,
    noted,
    sources_first,
    watched_since_ms,
)
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.reconciler import Reconciling
from m365watch.detection.alerts.stored_alert import GroupKey, News, Span
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.episode_finder import (
    FAR_MS,
    PERIOD_KINDS,
    find_episodes,
    period_of,
    reach_s,
    settled_ms,
    stretch_ms,
)
from m365watch.detection.correlation.period_rules import DAY_MS, SETTLED_S
from m365watch.detection.correlation.sliding_window import LONGEST
from m365watch.detection.engine.engine_port import Figures
from m365watch.detection.engine.group_tallies import Tallies, may_alert
from m365watch.detection.engine.match_extractor import Told
from m365watch.detection.engine.purposes import group_of, list_sought
from m365watch.detection.engine.record_batch import Incoming
from m365watch.detection.engine.reevaluation import Pending, Rejoining
from m365watch.detection.engine.rule_matcher import Matcher
from m365watch.detection.engine.unit_of_work import Change, Touched, Work
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import RECORDS, TROUBLE, DetectionState
from m365watch.detection.store.match_sampling import HOUR_MS, room_of
from m365watch.detection.store.stored_episodes import (
    HORIZON_MS,
    KeptMembers,
    alerts_judged,
    episodes_judged,
    moment_of,
    moment_with,
    part_judged,
    read_neighbours,
)


def learns(rule: Rule) -> bool:
    """Whether what the rule tells depends on since when the tenant is watched."""
    return rule.extension.first_seen is not None or rule.extension.deviation is not None


def unsettled(rule: Rule, *, since_ms: int, known_ms: int) -> tuple[int, int]:
    """Where a group has matches, [from, to), that is judged anew once its tenant is watched since earlier."""
    first_seen, deviation = rule.extension.first_seen, rule.extension.deviation
    if first_seen is not None:
        return since_ms + first_seen.learn * 1000, known_ms + first_seen.learn * 1000
    assert deviation is not None  # noqa: S101 - only rules that learn are asked
    # A period that falls behind those before it has no match of its own.
    return since_ms, known_ms + (deviation.periods + 2) * deviation.period * 1000


ALERTS_KEPT_MS = 90 * DAY_MS
"""How long an alert that is over is kept here; the lake keeps it longer."""
HOUR_MATCHES_MAX = 1_000
"""Matches of one group that are kept of an hour in any case, of each rule that is joined in it; of rules that
count to more, four times their number. What else is kept, `thinning` says."""
GROUPS_MAX = 50_000
"""Groups of one rule that are looked at for silence."""
LARGE_FROM = 200
"""Of a group with an alert and more matches than this, what is new is judged at the next look."""
_FULL = "Some hours had more matches than are kept: the count is at least this."
_CUT = "There are more neighbouring matches than are judged together."
_OF_ALL = frozenset({_FULL, _CUT})
"""What is true as well of an alert that joins one of which it is said."""


class Engine:
    """The rules over what is kept."""

    def __init__(
        self,
        rules: Sequence[Rule],
        state: DetectionState,
        *,
        knowledge: Knowledge = NOTHING_KNOWN,
        exceptions: Exceptions = NO_EXCEPTIONS,
        figures: Figures | None = None,
    ) -> None:
        """`rules` with all that correlations join, that about risk last; `state` is the engine's alone.

        Where another engine has used the file before, `figures` may go on from what that one has done.
        """
        self.rules = sources_first(rules)
        self.state = state
        # Whoever used the file before may have been another process.
        state.doubt()
        self.matcher = Matcher(list_sought(self.rules, knowledge), knowledge=knowledge)
        self.figures = figures or Figures()
        self._by_id: Mapping[str, Rule] = {rule.id: rule for rule in self.rules}
        self._rank = {rule.id: place for place, rule in enumerate(self.rules)}
        self._has_fields = {rule.id: bool(group_of(rule)) for rule in self.rules}
        self._room = {rule.id: room_of(rule, most=HOUR_MATCHES_MAX) for rule in self.rules}
        self._kept_ms = _kept_ms(self.rules)
        self._bucket_ms = {rule.id: ms for rule in self.rules if (ms := stretch_ms(rule))}
        self._tallies = Tallies(state)
        self.large_from = LARGE_FROM
        self._pending = Pending.of(state)
        self._rejoining = Rejoining(self.rules, state, self._tallies)
        self._reconciling = Reconciling(self.rules, state, self._tallies, exceptions)
        self._looked_at: dict[str, int] = {}
        self._forgot_in = -1
        self.trouble = ""
        """What makes it slower than it should be, until the next start."""
        self._told_trouble: str | None = None
        self._learning = [rule for rule in self.rules if learns(rule)]

    @property
    def last_batch(self) -> int:
        """The number of the last batch that is durable."""
        return self.state.last_batch

    def count_from(self, number: int) -> None:
        """As the state's. Raises: OutputUnavailable."""
        self.state.count_from(number)

    def expect(self, records: int, *, now: datetime) -> None:
        """Nothing to get ready, however many records come."""

    def take(self, portions: Sequence[Incoming], *, number: int, now: datetime) -> list[Change]:
        """Let a batch count, once and for all; what it has changed.

        A batch whose number is not beyond the last one has counted already, and changes nothing.

        Raises: OutputUnavailable: nothing of it counts.
        """
        return self.take_pieces([portions], number=number, now=now)

    def take_pieces(
        self, pieces: Iterable[Sequence[Incoming]], *, number: int, now: datetime
    ) -> list[Change]:
        """The same of a batch that comes in pieces: no record of one is looked at once the next is there.

        Raises: OutputUnavailable: nothing of it counts.
        """
        if number <= self.state.last_batch:
            return []
        try:
            with self.state.transaction():
                work = Work(ms_of(now), self._rank)
                records = self._find(pieces, work)
                self._judge(work)
                self._pending.keep(self.state)
                self.state.write("batch", str(number))
                self._keep_figures(records)
        except BaseException:
            self.matcher.sightings.take_back()
            self._pending.doubt()
            raise
        self.matcher.sightings.settle()
        self.figures.records += records
        return self._count(work)

    def _find(self, pieces: Iterable[Sequence[Incoming]], work: Work) -> int:
        """Keep the matches of all records; how many came."""
        matches: list[Match] = []
        records = 0
        for portions in pieces:
            for portion in portions:
                self._watch(portion, work)
            found, looked_at = self.matcher.match_all(
                (one.records, one.kinds, Told(one.tenant, one.received_at)) for one in portions
            )
            matches += found
            records += sum(one.count for one in portions)
            self.figures.decoded += looked_at
        self.matcher.trim()
        self.figures.matches += len(matches)
        self._keep(matches, work)
        return records

    def _keep_figures(self, records: int) -> None:
        """For who looks from another process."""
        self.state.write(RECORDS, str(int(self.state.read(RECORDS) or 0) + records))
        if self.trouble != self._told_trouble:
            self._told_trouble = self.trouble
            self.state.write(TROUBLE, self.trouble)

    def look(self, *, now: datetime) -> list[Change]:
        """Let time alone count: periods that are over, and what is too old to be kept.

        Raises: OutputUnavailable: nothing of it counts.
        """
        with self.state.transaction():
            work = Work(ms_of(now), self._rank)
            due = self._due(work.now_ms)
            groups = {rule_id: self._has_fields[rule_id] for rule_id in due}
            for key in self.state.matches.list_groups(groups, most=GROUPS_MAX):
                self.figures.groups_looked_at += 1
                work.touch(key, work.now_ms)
            self._rejoining.touch(work)
            self._judge_pending(work)
            self._forget(work.now_ms)
        self._pending.clear()
        self._looked_at.update(due)
        return self._count(work)

    def catch_up(self, *, now: datetime) -> list[Change]:
        """Judge what waits for the next look. Raises: OutputUnavailable: it waits on."""
        if not self._pending:
            return []
        with self.state.transaction():
            work = Work(ms_of(now), self._rank)
            self._judge_pending(work)
        self._pending.clear()
        return self._count(work)

    def _judge_pending(self, work: Work) -> None:
        for key, low_ms, high_ms in self._pending.waiting():
            work.touch(key, low_ms)
            work.touch(key, high_ms)
        self._judge(work)
        self._pending.keep_none(self.state)

    def hurry(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to let go of: the state is its owner's."""

    def _due(self, now_ms: int) -> dict[str, int]:
        """The rules of which another period has settled since the last look, with its number."""
        found = {
            rule.id: (now_ms - SETTLED_S * 1000) // (period_s * 1000)
            for rule in self.rules
            if (period_s := period_of(rule))
        }
        return {one: period for one, period in found.items() if self._looked_at.get(one) != period}

    # What is kept ------------------------------------------------------------------------------

    def _watch(self, portion: Incoming, work: Work) -> None:
        """Know since when the tenant is watched; what was new before may be known now, or the other way."""
        earliest = portion.earliest_ms if self._learning else None
        if earliest is None:
            return
        since = watched_since_ms(earliest)
        known = self.state.since_ms(portion.tenant)
        if known is not None and known <= since:
            return
        self.state.watch_since(portion.tenant, since)
        for rule in self._learning if known is not None else ():
            low_ms, high_ms = unsettled(rule, since_ms=since, known_ms=known or 0)
            has_fields = self._has_fields[rule.id]
            for key in self.state.matches.list_tenant_groups(
                rule.id, portion.tenant, has_fields=has_fields, low_ms=low_ms, high_ms=high_ms
            ):
                work.touch(key, low_ms)
                work.touch(key, high_ms)

    def _keep(self, matches: Iterable[Match], work: Work) -> None:
        """Put what is new on disk, and see which groups it touches."""
        groups: defaultdict[tuple[str, str, tuple[str, ...]], list[Match]] = defaultdict(list)
        for match in matches:
            if match.at_ms < work.now_ms - self._kept_ms[match.rule_id]:
                self.figures.too_old += 1
            else:
                groups[match.rule_id, match.tenant, match.group].append(match)
        by_key = {GroupKey(*name): found for name, found in groups.items()}
        changed = {key: self._changed_by(key, found) for key, found in by_key.items()}
        new = [match for matches, _ in changed.values() for match in matches]
        self._tallies.load(
            key for key, (_, times) in changed.items() if times and self._is_counted(key.rule_id)
        )
        self.state.matches.add(new)
        for key, (some, times) in changed.items():
            if times:
                self._touch(key, some, times, work)

    def _is_counted(self, rule_id: str) -> bool:
        """Whether its groups have tallies: each sighting of something new is judged."""
        return rule_id not in self._bucket_ms or self._by_id[rule_id].correlation is not None

    def _changed_by(self, key: GroupKey, found: Sequence[Match]) -> tuple[Sequence[Match], Sequence[int]]:
        """The matches to be kept, and the times that they change; of sightings, the first of a stretch."""
        stretch_ms = self._bucket_ms.get(key.rule_id)
        if stretch_ms is None:
            return found, [match.at_ms for match in found]
        first: dict[tuple[str, int], Match] = {}
        for match in found:
            stretch = match.counted, match.at_ms // stretch_ms
            if stretch not in first or match.order < first[stretch].order:
                first[stretch] = match
        new: list[Match] = []
        times: list[int] = []
        for match in first.values():
            known = self.state.matches.find_sighting(match, stretch_ms=stretch_ms)
            if known is None or match.order < known.order:
                new.append(match)
                times.append(match.at_ms)
                if known is not None:
                    self.state.matches.drop(known)
                    times.append(known.at_ms)
        return new, times

    def _touch(self, key: GroupKey, new: Sequence[Match], times: Sequence[int], work: Work) -> None:
        """Have the group judged again around these times, if an alert can come of what it has now."""
        rule, room = self._by_id[key.rule_id], self._room[key.rule_id]
        low_ms, high_ms = min(times), max(times)
        if self._is_counted(key.rule_id):
            tally = self._tallies.count_in(key, new)
            if tally.count > room.most:
                for hour_ms in sorted({at_ms // HOUR_MS * HOUR_MS for at_ms in times}):
                    changed = self.state.matches.thin_hour(key, hour_ms, room=room)
                    if changed is not None:
                        # What was told of matches that are gone now has to be told anew.
                        self.figures.hours_full += 1
                        low_ms, high_ms = min(low_ms, changed[0]), max(high_ms, changed[1])
            if not may_alert(rule, tally) or low_ms >= settled_ms(rule, work.now_ms):
                return
            if tally.is_alerted and tally.count > self.large_from:
                self._pending.put(key, low_ms, high_ms)
                return
        work.touch(key, low_ms)
        work.touch(key, high_ms)

    # Matches to alerts --------------------------------------------------------------------------

    def _judge(self, work: Work) -> None:
        """Judge every group that was touched, and those that this touches in turn."""
        while (following := work.pop()) is not None:
            key, touched = following
            self._judge_group(self._by_id[key.rule_id], key, touched, work)

    def _judge_group(self, rule: Rule, key: GroupKey, touched: Touched, work: Work) -> None:
        span = read_neighbours(self.state, rule, key, low_ms=touched.low_ms, high_ms=touched.high_ms)
        moment = moment_of(self.state, rule, key, span, now_ms=work.now_ms)
        # Beside what is left there is a part that was judged already: neither is whole.
        span = Span(span.matches, span.is_cut or touched.is_rest, span.begins)
        times = [match.at_ms for match in span.matches]
        by_periods = rule.kind in PERIOD_KINDS and rule.correlation is None
        if by_periods:
            # An alert from before what is still kept cannot be judged any more: it stays as it was.
            low_ms, high_ms = min(times, default=0), FAR_MS
        else:
            low_ms = min([touched.low_ms, *times[:1]])
            high_ms = max([touched.high_ms, *times[-1:]])
        # Of what ended before then something may be gone that it depends on: it stays as it was.
        known_ms = work.now_ms - HORIZON_MS
        listed = self.state.alerts.list_of(key, low_ms=low_ms, high_ms=high_ms)
        before = [kept for kept in listed if kept.alert.last_at_ms >= known_ms]
        over = [kept for kept in listed if kept.alert.last_at_ms < known_ms]
        longer = [kept for kept in before if kept.low_ms < low_ms or high_ms < kept.alert.last_at_ms]
        if longer and not by_periods and not span.is_cut:
            # Other rules found it: all of its time is judged, lest it go with only a part in its place.
            for at_ms in (touched.low_ms, touched.high_ms, *(at for kept in longer for at in kept.times_ms)):
                work.touch(key, at_ms)
            return
        if not by_periods and times:
            span, before = part_judged(span, before)
        moment = moment_with(moment, rule, span, before)
        found_now = find_episodes(rule, span.matches, moment)
        episodes = episodes_judged(found_now, before, over, known_ms=known_ms)
        if by_periods:
            before = alerts_judged(rule, before, found_now, times, moment)
        found = [(episode, *self._tell_of(rule, key, span, episode, work)) for episode in episodes]
        self._reconciling.make_it_so(rule, before, found, touched, work)
        if span.is_cut and not by_periods and times and touched.low_ms < times[0] <= touched.high_ms:
            # No later look would come back for it, and what joins it may lie there.
            work.touch_rest(key, touched, before_ms=times[0])
        if found:
            self._tallies.mark_alerted(key)

    def _tell_of(
        self, rule: Rule, key: GroupKey, span: Span, episode: Episode, work: Work
    ) -> tuple[Alert, Sequence[Match]]:
        """The alert, with what has to be kept in mind of what it joins; and all records of it and of that."""
        members = KeptMembers(self.state, self._by_id, now_ms=work.now_ms)
        told = members.inner.told(rule, episode)
        alert = make_alert(rule, told, self._by_id)
        about = (note for note in members.notes if note in _OF_ALL)
        notes = dict.fromkeys((*self._notes(key, span, episode, alert), *about))
        return noted(alert, tuple(notes)), told.matches

    def _notes(self, key: GroupKey, span: Span, episode: Episode, alert: Alert) -> tuple[str, ...]:
        # What it joins may have begun long before, in a group of its own, and brings its own notes.
        first_ms = episode.matches[0].at_ms
        low_ms = min(episode.from_ms or first_ms, first_ms)
        room = self._room[key.rule_id]
        is_full = self.state.matches.is_full(key, low_ms=low_ms, high_ms=alert.last_at_ms, room=room)
        return tuple(note for note, holds in ((_FULL, is_full), (_CUT, span.is_cut)) if holds)

    # Time ---------------------------------------------------------------------------------------

    def _forget(self, now_ms: int) -> None:
        """Once an hour: it reads all that is kept."""
        if now_ms // HOUR_MS == self._forgot_in:
            return
        self._forgot_in = now_ms // HOUR_MS
        for rule in self.rules:
            before_ms, back_ms = now_ms - self._kept_ms[rule.id], _back_s(rule) * 1000
            self.state.matches.forget(rule.id, before_ms=before_ms, back_ms=back_ms)
        self.state.absent.forget(self._by_id.keys(), now_ms=now_ms)
        self.state.matches.clean()
        self.state.alerts.forget(before_ms=now_ms - ALERTS_KEPT_MS)

    def _count(self, work: Work) -> list[Change]:
        for change in work.changes:
            if change.what is News.NEW:
                self.figures.alerts_new += 1
            elif change.what is News.UPDATED:
                self.figures.alerts_updated += 1
            else:
                self.figures.alerts_withdrawn += 1
        return work.changes


def _kept_ms(rules: Sequence[Rule]) -> dict[str, int]:
    """How long matches are kept, by rule: as long as those of any that joins it; sources come first."""
    found = {rule.id: HORIZON_MS + _past_s(rule) * 1000 for rule in rules}
    for rule in reversed(rules):
        for source in rule.correlation.sources if rule.correlation is not None else ():
            if source in found:
                found[source] = max(found[source], found[rule.id])
    return found


def _past_s(rule: Rule) -> int:
    """Seconds before the end of an episode on which it depends: all that it is long, and its first window.

    Not longer than alerts are kept, unless the rule reaches as far: what was let go of would be told anew.
    """
    reach = reach_s(rule)
    longest = reach * (LONGEST + 1 if rule.correlation is not None else 1)
    return max(reach, min(longest, (ALERTS_KEPT_MS - HORIZON_MS) // 1000))


def _back_s(rule: Rule) -> int:
    """Seconds before an alert's own beginning of which there are matches that it hangs on."""
    rolling, deviation = rule.extension.rolling, rule.extension.deviation
    if deviation is not None:
        return (deviation.periods + 1) * deviation.period
    if rule.extension.gradient is not None:
        return HORIZON_MS // 1000
    return rolling.back_period if rolling is not None else 0
