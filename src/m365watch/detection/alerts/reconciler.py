"""What is kept of a group's alerts becomes what was found of it: told as new, updated or withdrawn.

An alert that is no longer there is `formerly` the one that has its time now, which stands as it stood.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from m365watch.detection.alerts.alert import Alert, AlertId, Match
from m365watch.detection.alerts.alert_builder import NO_VERDICT, judge_exceptions, noted, why_excepted
from m365watch.detection.alerts.alert_exceptions import Exceptions, Part, Verdict
from m365watch.detection.alerts.reopen_policy import place, stand, turns
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert, News
from m365watch.detection.correlation.alert_links import alert_of, links_of
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, risk_matches
from m365watch.detection.engine.group_tallies import Tallies
from m365watch.detection.engine.unit_of_work import Change, Touched, Work
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.alert_history import StateChange
from m365watch.detection.store.detection_store import DetectionState
from m365watch.detection.store.lake_outbox import day_of
from m365watch.detection.store.match_store import key_of
from m365watch.detection.store.stored_episodes import KeptMembers, episode_of

BY = "exceptions_file"
"""Who has closed them, as their history says."""


def close_excepted(
    state: DetectionState, rules: Mapping[str, Rule], exceptions: Exceptions, *, at_ms: int
) -> int:
    """Close the alerts that an exception holds for and nobody has closed; how many.

    So are those that join others of which each is closed so: what is left of them is what somebody expects.

    Raises: OutputUnavailable: none is closed.
    """
    if not exceptions.every:
        return 0
    with state.transaction():
        every = state.alerts.list()
        standing = [kept for kept in every if kept.state is not AlertState.CLOSED]
        found = {
            kept.alert.id: verdict.reason
            for kept in standing
            if (rule := rules.get(kept.alert.rule_id)) is not None
            and (verdict := _judge(state, rule, kept, exceptions, rules, now_ms=at_ms)).is_whole
        }
        known = found | {one.alert.id: _reason_of(one) for one in every if one.changed_by == BY}
        left = [one for one in standing if one.alert.id not in found]
        found |= _resting_on(known, left, state, rules, exceptions, now_ms=at_ms)
        for alert_id, reason in found.items():
            state.alerts.set_state(
                alert_id, AlertState.CLOSED, reason=f"exception: {reason}", by=BY, at_ms=at_ms
            )
    return len(found)


def _reason_of(kept: KeptAlert) -> str:
    return kept.reason.removeprefix("exception: ") if kept.state is AlertState.CLOSED else ""


def _resting_on(
    excepted: Mapping[AlertId, str],
    standing: Sequence[KeptAlert],
    state: DetectionState,
    rules: Mapping[str, Rule],
    exceptions: Exceptions,
    *,
    now_ms: int,
) -> dict[AlertId, str]:
    """The alerts that join others alone that are excepted, with the reason of the first; also over others."""
    known = {alert_id: reason for alert_id, reason in excepted.items() if reason}
    found: dict[AlertId, str] = {}
    left = list(standing)
    while True:
        new: dict[AlertId, str] = {}
        for kept in left:
            rule = rules.get(kept.alert.rule_id)
            episode = None if rule is None else episode_of(state, rule, kept, now_ms=now_ms)
            if rule is not None and rule.correlation is not None and episode is not None:
                reasons = [
                    known.get(alert_of(match.identity)) or why_excepted(match, exceptions, rules)
                    for match in episode.matches
                ]
                if all(reasons):
                    new[kept.alert.id] = reasons[0]
        if not new:
            return found
        found |= new
        known |= new
        left = [one for one in left if one.alert.id not in new]


def _judge(
    state: DetectionState,
    rule: Rule,
    kept: KeptAlert,
    exceptions: Exceptions,
    rules: Mapping[str, Rule],
    *,
    now_ms: int,
) -> Verdict:
    """What they say of the alert's records; of what it names itself where those are not kept any more."""
    alert = kept.alert
    if rule.correlation is None and not exceptions.concern(rule, alert.tenant):
        return NO_VERDICT
    episode = episode_of(state, rule, kept, now_ms=now_ms)
    if episode is not None:
        inner = KeptMembers(state, rules, now_ms=now_ms).inner
        return judge_exceptions(rule, episode, exceptions, inner)
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    known = Part(alert.last_at_ms, {kind: alert.named(kind) for kind in kinds})
    return NO_VERDICT if alert.unnamed else exceptions.judge(rule, alert.tenant, [known])


class Reconciling:
    """Of one engine; everything is part of its transaction."""

    def __init__(
        self, rules: Sequence[Rule], state: DetectionState, tallies: Tallies, exceptions: Exceptions
    ) -> None:
        """`rules` are all that are in force."""
        self._rules = rules
        self._by_id = {rule.id: rule for rule in rules}
        self._state = state
        self._tallies = tallies
        self._exceptions = exceptions
        self._has_risk = RISK_RULE_ID in self._by_id

    def make_it_so(
        self,
        rule: Rule,
        before: Sequence[KeptAlert],
        found: Sequence[tuple[Episode, Alert, Sequence[Match]]],
        touched: Touched,
        work: Work,
    ) -> None:
        """Make what is kept what was found; what disappears becomes what overlaps it, or is withdrawn.

        `before` is what was kept there, `found` each episode with its alert and all of its records.
        """
        new_ids = {alert.id for _, alert, _ in found}
        before = self._parted(before, new_ids)
        old = {kept.alert.id: kept for kept in before}
        gone = [kept for kept in before if kept.alert.id not in new_ids]
        to_be_kept = [self._to_be_kept(rule, episode, alert, work) for episode, alert, _ in found]
        became = _what_became(gone, to_be_kept)
        for new, (episode, alert, records) in zip(to_be_kept, found, strict=True):
            formers = [kept for kept in gone if became.get(kept.alert.id) == alert.id]
            known = old.get(alert.id) or self._state.alerts.find_itself(alert.id)
            self._settle(new, known, formers, work, standing=new_ids)
            links = links_of(rule, episode, alert, self._rules, records)
            is_known = alert.id in old and old[alert.id].alert.notes == new.alert.notes
            if not is_known or (alert.first_at_ms <= touched.high_ms and touched.low_ms <= alert.last_at_ms):
                # What joins it tells its records too, also those that do not change when it holds.
                for link in links:
                    work.touch(key_of(link), link.at_ms)
            if new.shown and self._has_risk:
                links += risk_matches(rule, alert)
            for key, at_ms in self._state.links.replace(alert.id, links):
                work.touch(key, at_ms)
            for link in links:
                self._tallies.count_in(key_of(link), [link])
        for kept in gone:
            if kept.alert.id not in became and not kept.is_put_back:
                self._withdraw(kept, work, standing=new_ids)

    def _parted(self, before: Sequence[KeptAlert], found: Collection[AlertId]) -> Sequence[KeptAlert]:
        """What was kept, without what was made of an alert that had become a part of it and is back."""
        ids = [kept.alert.id for kept in before]
        others = {other for one in found if one not in ids for other in self._state.alerts.take_back(one)}
        return [kept for one in ids if (kept := self._state.alerts.find_itself(one))] if others else before

    def _to_be_kept(self, rule: Rule, episode: Episode, alert: Alert, work: Work) -> KeptAlert:
        """The alert as it is kept, if nothing is known of it yet."""
        inner = KeptMembers(self._state, self._by_id, now_ms=work.now_ms).inner
        verdict = judge_exceptions(rule, episode, self._exceptions, inner)
        own_ms = episode.from_ms or episode.matches[0].at_ms
        return KeptAlert(
            noted(alert, verdict.notes),
            shown=rule.alerts and not verdict.is_whole,
            together_ms=0 if own_ms == alert.first_at_ms else own_ms,
        )

    def _settle(
        self,
        new: KeptAlert,
        known: KeptAlert | None,
        formers: Sequence[KeptAlert],
        work: Work,
        *,
        standing: Collection[AlertId],
    ) -> None:
        """Keep an alert, with the history of what it was before; `standing` are all that there are now."""
        alert, shown = new.alert, new.shown
        formerly = known.alert.formerly if known is not None else ()
        before = known or self._state.alerts.recall(new)
        for former in formers:
            formerly = (*formerly, *former.alert.formerly, former.alert.id)
            self._unlink(former.alert.id, work)
            self._state.alerts.drop(former.alert.id, became=alert.id)
        alert = self._with_formers(alert, formerly, standing)
        if known is not None and (known.alert, known.low_ms) == (alert, new.low_ms) and known.shown == shown:
            if known.is_put_back:
                self._state.alerts.put(replace(known, is_put_back=False))
            return
        if known is not None and day_of(known.alert.first_at_ms) != day_of(alert.first_at_ms):
            self._state.lake_due.mark_kept(alert.id)
        parts = [*([] if before is None else [before]), *formers]
        self._keep_alert(new if alert is new.alert else replace(new, alert=alert), parts, work)
        was_shown = any(one.shown for one in (*formers, *([] if known is None else [known])))
        if shown:
            what = News.UPDATED if was_shown else News.NEW
            self._tell(what, alert, work)
        elif was_shown:
            self._tell(News.WITHDRAWN, alert, work)

    def _keep_alert(self, kept: KeptAlert, parts: Sequence[KeptAlert], work: Work) -> None:
        """Keep an alert that `parts` have become; what was closed opens if anything has come to it."""
        if parts:
            closings = self._state.closings.list(kept.alert.id)
            standing = stand(kept.alert, parts, closings, now_ms=work.now_ms)
            kept = place(kept, standing)
            if kept.shown and turns(parts, standing):
                self._state.history.add(
                    kept.alert.id, StateChange(work.now_ms, standing.state, standing.reason, standing.by)
                )
        self._state.alerts.put(kept)

    def _tell(self, what: News, alert: Alert, work: Work) -> None:
        self._state.lake_due.mark(alert.id, first_at_ms=alert.first_at_ms)
        work.changes.append(Change(what, alert))

    def _withdraw(self, kept: KeptAlert, work: Work, *, standing: Collection[AlertId]) -> None:
        alert = self._with_formers(kept.alert, kept.alert.formerly, standing)
        self._unlink(alert.id, work)
        self._state.alerts.drop(alert.id, became=None)
        if kept.shown:
            self._tell(News.WITHDRAWN, alert, work)

    def _unlink(self, alert_id: AlertId, work: Work) -> None:
        for key, at_ms in self._state.links.replace(alert_id, []):
            work.touch(key, at_ms)

    def _with_formers(
        self, alert: Alert, formerly: Iterable[AlertId], standing: Collection[AlertId]
    ) -> Alert:
        """The alert with former ids, but for those that others have: a first record takes its id along."""
        left = (one for one in dict.fromkeys(formerly) if one not in standing)
        formers = tuple([one for one in left if self._state.alerts.find_itself(one) is None])
        return alert if formers == alert.formerly else replace(alert, formerly=formers)


def _what_became(gone: Iterable[KeptAlert], found: Sequence[KeptAlert]) -> dict[AlertId, AlertId]:
    """Of each alert that is no longer there the one that has most of its time, the earliest of several.

    Where records of a time before bring all parts of what goes on for long forward, each stays itself.
    """
    became: dict[AlertId, AlertId] = {}
    for old in gone:
        heirs = [new for new in found if old.overlaps(new)]
        if heirs:
            became[old.alert.id] = max(heirs, key=old.common_ms).alert.id
    return became
