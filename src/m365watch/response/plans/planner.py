"""The plan for an alert: its rule's words for containment, each turned into steps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from m365watch.config.models.clouds import Cloud
from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.alerts.alert_builder import split_line
from m365watch.detection.alerts.alert_text import notes_of
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, USUAL
from m365watch.detection.rules.rule import Joined, Rule
from m365watch.detection.rules.severity import Severity
from m365watch.response.execution.graph_permissions import UNSERVED
from m365watch.response.plans.alert_evidence import Clues, gather_clues, split_clues
from m365watch.response.plans.alert_records import Recalled, Told, parts_of, records_about
from m365watch.response.plans.emergency_accounts import ask_for_spared
from m365watch.response.plans.incident_actors import BegunBy, beginnings_in, sort_hands
from m365watch.response.plans.previous_values import with_earlier
from m365watch.response.plans.record_timeline import Story
from m365watch.response.plans.step_approval import (
    SEE,
    ask_of_others,
    ask_of_tried,
    listed_in,
    see_who_signed_in,
    strangers_in,
)
from m365watch.response.plans.step_caveats import with_caveats
from m365watch.response.plans.step_order import cut_long, in_order, singles_first, spare_own
from m365watch.response.plans.unresolved_steps import find_first, is_idle, sentence, title_of
from m365watch.response.steps import accounts, applications, mail_flow, sharepoint, tenant_settings
from m365watch.response.steps import block_list as blocking
from m365watch.response.steps import external_users as outsiders
from m365watch.response.steps import group_memberships as memberships
from m365watch.response.steps import inbox_rules as inbox
from m365watch.response.steps import mail_purge as purging
from m365watch.response.steps import mailbox_permissions as delegates
from m365watch.response.steps import role_assignments as roles
from m365watch.response.steps import sharepoint as sharing
from m365watch.response.steps import tenant_settings as auditing
from m365watch.response.steps import tenant_settings as policies
from m365watch.response.steps.command_escaping import UnsafeValue, is_account
from m365watch.response.steps.step import PartOfIt, Plan, Step

Builder = Callable[[Clues], list[Step]]
BUILDERS: Mapping[str, Builder] = {
    "block_address": accounts.block_address,
    "block_external_user": outsiders.block_external_user,
    "block_indicator": blocking.block_indicator,
    "disable_account": accounts.disable_account,
    "disable_anonymous_link": sharing.disable_anonymous_link,
    "disable_application": applications.disable_application,
    "disable_flow": policies.disable_flow,
    "remove_connector": mail_flow.remove_connector,
    "remove_credential": applications.remove_credential,
    "remove_device": accounts.remove_device,
    "remove_file": sharing.remove_file,
    "remove_forwarding": inbox.remove_forwarding,
    "remove_group_member": memberships.remove_group_member,
    "remove_inbox_rule": inbox.remove_inbox_rule,
    "remove_mail": purging.remove_mail,
    "remove_mailbox_permission": delegates.remove_mailbox_permission,
    "remove_oauth_grant": applications.remove_oauth_grant,
    "remove_owner": memberships.remove_owner,
    "remove_role": roles.remove_role,
    "remove_sharing": sharing.remove_sharing,
    "remove_site_admin": sharing.remove_site_admin,
    "remove_transport_rule": mail_flow.remove_transport_rule,
    "remove_user_consent": applications.remove_user_consent,
    "reset_password": accounts.reset_password,
    "restore_audit": auditing.restore_audit,
    "restore_federation": tenant_settings.restore_federation,
    "restore_files": sharing.restore_files,
    "restore_mfa": accounts.restore_mfa,
    "restore_policy": policies.restore_policy,
    "restore_sharing_policy": sharepoint.restore_sharing_policy,
    "revoke_sessions": accounts.revoke_sessions,
    "scan_device": sharing.scan_device,
    SEE: see_who_signed_in,
}
"""By the word that rules have under `contain`."""
AMBIGUOUS = frozenset({"ObjectId", "Parameters.Identity", "Parameters.Name"})
"""Fields that name a policy in one record and a file or a rule in the next."""
OF_ONE_KIND = frozenset(
    {"remove_connector", "remove_file", "remove_forwarding", "remove_inbox_rule", "remove_transport_rule"}
)
"""Words whose builders know by what was done what a record names, and leave alone what is not theirs."""
OF_ACCOUNTS = frozenset(
    {"disable_account", "reset_password", "restore_mfa", "revoke_sessions", "block_address", SEE}
)
"""Words for whom an alert is about, which an alert that joins others knows best itself."""
LOCKING = frozenset({"disable_account", "reset_password", "revoke_sessions"})
"""Words that keep an account from its work."""
SHUTTING = LOCKING | {"disable_application"}
"""Words that keep whoever did it out."""
_OF_EVERYBODY = frozenset({"disable_application", "remove_oauth_grant"})
"""Words that end an application for whoever uses it."""
_ONLY_NEAR = (
    "That it is the same person only the address says, which everybody in one office shares: --yes leaves it"
    " alone."
)

NO_RULES: Mapping[str, Rule] = {}


def plan_recalled(
    alert: Alert,
    recalled: Recalled,
    *,
    rules: Mapping[str, Rule],
    cloud: Cloud,
    own_apps: Collection[str] = (),
    spared: Collection[str] = (),
) -> Plan:
    """The steps for an alert as it is kept, by what the rules and its records tell, in the tenant's cloud.

    To accounts that are `spared` nothing is done unless a person says so.
    """
    plan = plan_response(
        alert,
        recalled.matches,
        recalled.parts,
        begun_by=beginnings_in(rules),
        rules=rules,
        own_apps=own_apps,
        closed=recalled.closed_parts,
        beside=recalled.beside,
        remarks=recalled.remarks,
    )
    unserved = UNSERVED.get(cloud.graph_url, frozenset())
    steps = (inbox.without_graph(one) if one.word in unserved else one for one in plan.steps)
    return replace(plan, steps=tuple(ask_for_spared(one, spared) for one in steps))


def plan_response(
    alert: Alert,
    matches: Sequence[Match] = (),
    parts: Sequence[Told] = (),
    *,
    begun_by: BegunBy = lambda _rule: None,
    rules: Mapping[str, Rule] = NO_RULES,
    own_apps: Collection[str] = (),
    closed: Sequence[Alert] = (),
    beside: Sequence[Told] = (),
    remarks: Sequence[str] = (),
) -> Plan:
    """The steps for an alert, the door first; `matches` are those of it that are still kept.

    Of an alert that joins others, these are its `parts`: they know which rule, link or application it was,
    and the alert itself which accounts. `rules`, by their ids, know what a record names; `closed` are parts
    that somebody closed, of which nothing is undone; what alerts `beside` it have only tells what became of a
    thing. A word that nothing can be done for says so as a step of its own, so that nobody takes it for done,
    but for one that what was done leaves nothing to do for.
    """
    told = Told(alert, matches)
    parts = parts_of(told, parts, rules)
    words = in_order(_words_of(alert, matches, parts, closed))
    by_word = {word: _each_once(_steps_for(word, told, parts, beside, begun_by, rules)) for word in words}
    if any("remove_user_consent" in one.contain for one in (alert, *(part.alert for part in parts))):
        by_word |= {word: [*map(_ask_always, by_word[word])] for word in _OF_EVERYBODY & by_word.keys()}
    by_word = _with_acting(by_word, told)
    strangers, listed = strangers_in((told, *parts), rules), listed_in((told, *parts))
    by_word = {word: ask_of_others(every, strangers, listed=listed) for word, every in by_word.items()}
    if SEE in by_word:
        by_word |= {word: [*map(ask_of_tried, by_word[word])] for word in LOCKING & by_word.keys()}
    is_usual = not alert.contain or alert.rule_id == RISK_RULE_ID
    if is_usual:
        by_word = {word: [*map(_ask_as_usual, every)] for word, every in by_word.items()}
    kept, cut = cut_long(with_caveats(by_word))
    steps = spare_own(_each_once(kept), own_apps)
    notes = [*remarks]
    if not steps:
        notes.append("neither the rule nor the alert names what could be contained")
    elif is_usual:
        notes.append("the rule names nothing that would contain it: these are the usual steps")
    if steps:
        notes += (f"not in this plan: {note}" for note in notes_of(alert.unnamed))
    notes += cut
    # Where there is only a look, a part's own plan may know more.
    had = {word for word, of in by_word.items() if any(one.operations or one.powershell for one in of)}
    return Plan(
        alert.id,
        alert.tenant,
        alert.title,
        tuple(steps),
        _more_in_parts(had, parts),
        tuple(notes),
        since=alert.first_seen_at,
        checks=alert.check,
    )


def _with_acting(by_word: Mapping[str, list[Step]], told: Told) -> dict[str, list[Step]]:
    """An application that acted is shut out first, where accounts or applications are."""
    acting = applications.disable_acting(gather_clues(told.alert, ()))
    if not acting or not SHUTTING & by_word.keys():
        return dict(by_word)
    by_word = {**by_word, "disable_application": [*acting, *by_word.get("disable_application", [])]}
    return {word: by_word[word] for word in in_order(by_word)}


def _words_of(
    alert: Alert, matches: Sequence[Match], parts: Sequence[Told], closed: Sequence[Alert]
) -> tuple[str, ...]:
    """The rule's words, less those for things that none of the parts has touched.

    Where all parts are known, that is, and none but those that somebody closed.
    """
    touched = {word for part in parts for word in part.alert.contain}
    of_closed = {word for one in closed for word in one.contain if word in BUILDERS} - touched - OF_ACCOUNTS
    words = tuple(
        one
        for one in alert.contain or _usual_words(alert)
        if one not in of_closed and not _is_idle(one, alert)
    )
    if not parts or not {one.source_id for one in matches} <= {one.alert.rule_id for one in parts}:
        return words
    return tuple(one for one in words if one in touched or one in OF_ACCOUNTS or one not in BUILDERS)


def _is_idle(word: str, alert: Alert) -> bool:
    """Whether it is about a policy, where nothing but somebody's second factor was changed."""
    targets = alert.named("target")
    return word == "restore_policy" and bool(targets) and all(map(is_account, targets))


def _steps_for(
    word: str,
    told: Told,
    parts: Sequence[Told],
    beside: Sequence[Told],
    begun_by: BegunBy,
    rules: Mapping[str, Rule],
) -> list[Step]:
    builder = BUILDERS.get(word)
    if builder is None:
        return [Step(word, sentence(word), notes=("By hand.",))]
    knowing = [part for part in parts if word in part.alert.contain] or [told]
    if word in OF_ACCOUNTS:
        knowing = [told]
        steps = _steps_of_accounts(word, builder, told, begun_by, rules.get(told.alert.rule_id))
    else:
        steps = _steps_by_record(word, builder, knowing, beside, rules)
    if word == "remove_forwarding":
        steps = inbox.without_needless_looks(steps)
    if word == "remove_credential":
        steps = applications.without_guesses(steps)
    if steps or is_idle(word, knowing, rules):
        return steps
    return [find_first(word, knowing[0])]


def _steps_of_accounts(
    word: str, builder: Builder, told: Told, begun_by: BegunBy, rule: Rule | None
) -> list[Step]:
    """For who is tied to all of it; for who is only near, if a person says so; and nothing for the others."""
    hands = sort_hands(told.alert, told.matches, begun_by)
    if word == "block_address":
        return _built(word, builder, _where_it_went_on(hands.tied, told.matches, rule))
    steps = _built(word, builder, hands.tied)
    if word == SEE:
        return steps
    is_low = told.alert.severity.rank <= Severity.LOW.rank
    if is_low and hands.tied.is_refused and word in LOCKING:
        steps = [*map(_ask_as_refused, steps)]
    for account, address in hands.near:
        entities = {**hands.tied.entities, "user": (account,), "actor": ()}
        steps += [
            replace(
                step,
                title=f"{step.title} (it came from {address}, as another part of this did)",
                notes=(_ONLY_NEAR, *step.notes),
                asks_always=True,
            )
            for step in _built(word, builder, replace(hands.tied, entities=entities))
        ]
    return [*steps, *(_look_first(word, one) for one in hands.loose)]


def _where_it_went_on(clues: Clues, matches: Sequence[Match], rule: Rule | None) -> Clues:
    """Of what came one after the other the addresses of the last: it began where the owner sits."""
    correlation = rule.correlation if rule is not None else None
    if correlation is None or correlation.joined is not Joined.ORDERED:
        return clues
    last = [one for one in matches if one.source_id == correlation.sources[-1]]
    said = {one.lower() for match in last for one in split_line(match.values.get("m365.ip", ""))}
    addresses = tuple(one for one in clues.entity("address") if one.lower() in said)
    if not addresses:
        return clues
    return replace(clues, entities={**clues.entities, "address": addresses})


def _steps_by_record(
    word: str, builder: Builder, every: Sequence[Told], beside: Sequence[Told], rules: Mapping[str, Rule]
) -> list[Step]:
    """Each step once; what became of a thing all alerts' records tell together.

    Where kinds of records are joined, nobody knows what an object's name names.
    """
    about = [(told.alert, *records_about(word, told, rules)) for told in every]
    others = [(told.alert, records_about(word, told, rules)[0]) for told in beside]
    own = [(alert, matches) for alert, matches, _ in about]
    story = Story(
        (match for _, matches in own for match in matches),
        (match for _, matches in others for match in matches),
        found_by={one.order: alert.id[:8] for alert, matches in (*others, *own) for one in matches},
    )
    steps: list[Step] = []
    for alert, matches, is_known in about:
        for clues in split_clues(alert, matches, rules.get(alert.rule_id)):
            is_clear = is_known or (word in OF_ONE_KIND and clues.operation != "")
            seen = clues if is_clear else clues.without(AMBIGUOUS)
            steps += _built(word, builder, replace(seen, story=story))
    return singles_first(_each_once(steps))


def _built(word: str, builder: Builder, clues: Clues) -> list[Step]:
    """The steps; one for a person where a name cannot stand in a command."""
    try:
        return [replace(step, since=step.since or clues.last_at) for step in builder(clues)]
    except UnsafeValue as error:
        why = f"By hand: a name in its record {error}, and is in no command; see `m365watch alerts show`."
        return [Step(word, title_of(word), notes=(why,))]


def _each_once(steps: Iterable[Step]) -> list[Step]:
    """What several records ask for, once: with the doubt that any of them has."""
    found: dict[tuple[str, tuple[str, ...], str], Step] = {}
    for step in steps:
        key = (step.title, step.powershell, repr(step.operations))
        first = found.setdefault(key, step)
        since = max(first.since, step.since) if first.since and step.since else first.since
        doubted, other = (step, first) if step.asks_always and not first.asks_always else (first, step)
        found[key] = replace(doubted, since=since, notes=with_earlier(doubted.notes, other.notes))
    return list(found.values())


def _more_in_parts(words: Collection[str], parts: Sequence[Told]) -> tuple[PartOfIt, ...]:
    more = [(part.alert, tuple(word for word in part.alert.contain if word not in words)) for part in parts]
    return tuple(PartOfIt(alert.id, alert.title, lacking) for alert, lacking in more if lacking)


def _usual_words(alert: Alert) -> tuple[str, ...]:
    return tuple(word for kind, words in USUAL.items() if alert.entity(kind) for word in words)


def _ask_as_usual(step: Step) -> Step:
    """Nobody who wrote the rule meant it, and whom the alert names may be whom it was done to."""
    why = "The rule does not ask for it, and whoever is named may be the one attacked: --yes leaves it alone."
    if step.asks_always or not step.operations:
        return step
    return replace(step, notes=(why, *step.notes), asks_always=True)


def _ask_always(step: Step) -> Step:
    why = "One person let it in; it stops for others as well, who may rightly use it: --yes leaves it alone."
    return replace(step, notes=(why, *step.notes), asks_always=True) if step.operations else step


def _ask_as_refused(step: Step) -> Step:
    """Nothing came of it, no rule takes it for more than a sign, and whoever tried may have been at work."""
    why = "All that was tried was refused, and who tried it may be at work: --yes leaves it alone."
    return replace(step, notes=(why, *step.notes), asks_always=True) if step.operations else step


def _look_first(word: str, account: str) -> Step:
    why = "By hand. Nothing but the day ties it to how it began: it may be somebody at work."
    return Step(word, f"See whether {account} has a part in it, before anything is done to it", notes=(why,))
