"""The plan for an alert: its rule's words for containment, each turned into steps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from m365watch.detect.alert import Alert, Match
from m365watch.detect.naming import notes_of
from m365watch.detect.risk import USUAL
from m365watch.respond import accounts, applications, mail, policies, sharing
from m365watch.respond.clues import Clues, gather_clues
from m365watch.respond.steps import Plan, Step

BUILDERS: Mapping[str, Callable[[Clues], list[Step]]] = {
    "block_address": accounts.block_address,
    "block_external_user": accounts.block_external_user,
    "disable_account": accounts.disable_account,
    "disable_anonymous_link": sharing.disable_anonymous_link,
    "disable_application": applications.disable_application,
    "disable_flow": policies.disable_flow,
    "remove_connector": mail.remove_connector,
    "remove_credential": applications.remove_credential,
    "remove_device": accounts.remove_device,
    "remove_file": sharing.remove_file,
    "remove_forwarding": mail.remove_forwarding,
    "remove_group_member": accounts.remove_group_member,
    "remove_inbox_rule": mail.remove_inbox_rule,
    "remove_mail": mail.remove_mail,
    "remove_mailbox_permission": mail.remove_mailbox_permission,
    "remove_oauth_grant": applications.remove_oauth_grant,
    "remove_owner": accounts.remove_owner,
    "remove_role": accounts.remove_role,
    "remove_sharing": sharing.remove_sharing,
    "remove_site_admin": sharing.remove_site_admin,
    "remove_transport_rule": mail.remove_transport_rule,
    "reset_password": accounts.reset_password,
    "restore_audit": mail.restore_audit,
    "restore_federation": policies.restore_federation,
    "restore_files": sharing.restore_files,
    "restore_mfa": accounts.restore_mfa,
    "restore_policy": policies.restore_policy,
    "restore_sharing_policy": sharing.restore_sharing_policy,
    "revoke_sessions": accounts.revoke_sessions,
    "scan_device": sharing.scan_device,
}
"""By the word that rules have under `contain`."""

STEPS_MAX = 100
"""Steps of one plan; what an alert has more of is said in its notes."""


def plan_response(alert: Alert, matches: Iterable[Match] = ()) -> Plan:
    """The steps for an alert, in the order of its rule; `matches` are those of it that are still kept.

    A word that nothing can be done for says so as a step of its own, so that nobody takes it for done.
    """
    clues = gather_clues(alert, matches)
    steps: list[Step] = []
    for word in dict.fromkeys(alert.contain or _usual_words(alert)):
        builder = BUILDERS.get(word)
        steps += (builder(clues) if builder is not None else []) or [
            _nothing_known(word, is_ours=bool(builder))
        ]
    notes = (
        [] if alert.contain else ["the rule names nothing that would contain it: these are the usual steps"]
    )
    notes += [f"not in this plan: {note}" for note in notes_of(alert.unnamed)]
    notes = notes if steps else ["neither the rule nor the alert names what could be contained"]
    if len(steps) > STEPS_MAX:
        notes.append(f"{len(steps) - STEPS_MAX} more steps are left out; contain these first, and look again")
    return Plan(alert.id, alert.tenant, alert.title, tuple(steps[:STEPS_MAX]), tuple(notes))


def _usual_words(alert: Alert) -> tuple[str, ...]:
    return tuple(word for kind, words in USUAL.items() if alert.entity(kind) for word in words)


def _nothing_known(word: str, *, is_ours: bool) -> Step:
    said = word.replace("_", " ")
    why = (
        "The alert does not name what this has to be done to; its records may: see `m365watch alerts show`."
        if is_ours
        else "It is the rule's own word: how it is done is not known here."
    )
    return Step(word, f"{said[:1].upper()}{said[1:]}", notes=(f"By hand. {why}",))
