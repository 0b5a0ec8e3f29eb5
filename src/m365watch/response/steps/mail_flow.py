"""Steps on what decides for all mailboxes where mail goes: transport rules and connectors.

A rule that is gone or switched off may have been the owner's protection or the intruder's own, which tidies
up: only what a record of the same alert made is removed, and nothing is made or switched on again unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.detection.rules.containment import CONNECTOR_SETTINGS
from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.plans.previous_values import OF_CMDLET
from m365watch.response.plans.record_timeline import CALLED, History
from m365watch.response.steps import exchange_identities as exchange_names
from m365watch.response.steps.exchange_identities import EXCHANGE_ONLY, REFUSED
from m365watch.response.steps.step import Step

_RULES = ("TransportRule",)
_DIRECTIONS = ("Inbound", "Outbound")
_IF_IT_IS = "# if it does what the record tells: "
_LATER = (
    "No record tells what became of it since: it may be called otherwise by now, and another as it was. Is"
    " WhenChanged later than the alert's records, look twice."
)
_NOT_TOLD = "No alert tells of connectors that are removed: see whether one of yours is missing."


def remove_transport_rule(clues: Clues) -> list[Step]:
    """What the alert's records made is disabled and removed; one that was there before is looked at."""
    if not clues.is_about("-transportrule"):
        return []
    if clues.is_refused:
        named = clues.told(*CALLED)
        return [_look_after_trial("remove_transport_rule", "transport rule", one, _RULES) for one in named]
    return [
        _transport_rule(one)
        for name in clues.told(*CALLED)
        for one in clues.story.histories_of(name, "-transportrule")
    ]


def _look_after_trial(word: str, what: str, name: str, kinds: Sequence[str]) -> Step:
    return Step(
        word,
        f'See that nothing came of what was tried with the {what} "{name}"',
        powershell=tuple(map(exchange_names.list_every, kinds)),
        notes=(EXCHANGE_ONLY, REFUSED),
    )


def _transport_rule(rule: History) -> Step:
    name, quoted = rule.told, exchange_names.identity(rule.name)
    look = exchange_names.get("TransportRule", rule.name)
    listed = exchange_names.list_every("TransportRule")
    off = f"Disable-TransportRule -Identity {quoted} -Confirm:$false"
    commands: tuple[str, ...]
    earlier: tuple[str, ...] = ()
    if rule.is_made and rule.is_gone:
        title = f"See that the transport rule {name} is gone: it was made here, and removed again"
        remove = f"Remove-TransportRule -Identity {quoted} -Confirm:$false"
        # Records of one second have no order: it may live, or have been one's own before.
        commands = (listed, f"# if it is still there and not yours: {off}", f"# {remove}")
    elif rule.is_made:
        title = f"Disable the transport rule {name}, then remove it"
        remove = f"Remove-TransportRule -Identity {quoted} -Confirm:$false"
        commands = (look, f"{_IF_IT_IS}{off}", f"# and then: {remove}")
    elif rule.is_gone:
        title = f"See whose transport rule {name} was; make it again if it was yours"
        commands = (listed,)
    elif "disable" in rule.since:
        title = f"See whose transport rule {name} is; enable it again if it is yours"
        commands = (look, f"# if it is yours: Enable-TransportRule -Identity {quoted} -Confirm:$false")
    elif "set" in rule.since:
        title = f"Put the transport rule {name} back as it was"
        commands = (look, f"# if it is not yours: {off}")
        earlier = (OF_CMDLET,)
    else:
        title = f"See whose transport rule {name} is, and what was done to it"
        commands = (look, f"# if it is not yours: {off}")
    remarks = (*exchange_names.remarks(rule.name), *rule.remarks)
    return Step(
        "remove_transport_rule", title, powershell=commands, notes=(EXCHANGE_ONLY, *remarks, *earlier, _LATER)
    )


def remove_connector(clues: Clues) -> list[Step]:
    """What the alert's records made is switched off and removed; one that was there before is put back."""
    if not clues.is_about("connector"):
        return []
    told = [kind for kind in _DIRECTIONS if kind.lower() in clues.operation]
    if clues.is_refused:
        kinds = tuple(f"{one}Connector" for one in told or _DIRECTIONS)
        named = clues.told(*CALLED)
        return [_look_after_trial("remove_connector", "mail connector", one, kinds) for one in named]
    changed = [one for one in CONNECTOR_SETTINGS if clues.has(f"Parameters.{one}")]
    of = f"{told[0].lower()}connector" if told else "connector"
    return [
        _new_connector(one, told[0])
        if told and one.is_made
        else _changed_connector(one, told or list(_DIRECTIONS), changed)
        for name in clues.told(*CALLED)
        for one in clues.story.histories_of(name, of)
    ]


def _new_connector(connector: History, kind: str) -> Step:
    quoted = exchange_names.identity(connector.name)
    return Step(
        "remove_connector",
        f"Switch the mail connector {connector.told} off, then remove it",
        powershell=(
            exchange_names.get(f"{kind}Connector", connector.name),
            f"{_IF_IT_IS}Set-{kind}Connector -Identity {quoted} -Enabled $false",
            f"# and then: Remove-{kind}Connector -Identity {quoted} -Confirm:$false",
        ),
        notes=(
            EXCHANGE_ONLY,
            *exchange_names.remarks(connector.name),
            *connector.remarks,
            _LATER,
            _NOT_TOLD,
        ),
    )


def _changed_connector(connector: History, kinds: list[str], changed: list[str]) -> Step:
    """Whose it is no record says, and mail may stop where one's own is switched off."""
    quoted = exchange_names.identity(connector.name)
    what = f"The record set {', '.join(changed)}. " if changed else ""
    return Step(
        "remove_connector",
        f"Put the mail connector {connector.told} back as it was",
        powershell=(
            *(exchange_names.get(f"{kind}Connector", connector.name) for kind in kinds),
            *(
                f"# if it is not yours: Set-{kind}Connector -Identity {quoted} -Enabled $false"
                for kind in kinds
            ),
        ),
        notes=(
            EXCHANGE_ONLY,
            f"{what}Mail stops, or passes unchecked, where a connector of yours is off.",
            OF_CMDLET,
            *exchange_names.remarks(connector.name),
            *connector.remarks,
            _LATER,
        ),
    )
