"""Steps on what decides for all mailboxes where mail goes: transport rules and connectors.

A rule that is gone or switched off may have been the owner's protection or the intruder's own, which tidies
up: only what a record of the same alert made is removed, and nothing is made or switched on again unseen.
"""

from __future__ import annotations

from m365watch.detect.containment import CONNECTOR_SETTINGS
from m365watch.detect.derived.operation import normalise_operation
from m365watch.respond.clues import Clues
from m365watch.respond.mailboxes import EXCHANGE_ONLY
from m365watch.respond.quoting import powershell
from m365watch.respond.steps import Step

_CALLED = ("Parameters.Name", "Parameters.Identity", "ObjectId")


def remove_transport_rule(clues: Clues) -> list[Step]:
    """What the alert's records made is disabled and removed; one that was there before is looked at."""
    if not clues.is_about("-transportrule"):
        return []
    return [_transport_rule(name, _done_to(clues, name, "-transportrule")) for name in clues.values(*_CALLED)]


def _transport_rule(name: str, verbs: tuple[str, ...]) -> Step:
    quoted = powershell(name)
    look = f"Get-TransportRule -Identity {quoted} | Format-List"
    listed = "Get-TransportRule | Format-Table Name,State,Priority,WhenChanged"
    off = f"Disable-TransportRule -Identity {quoted} -Confirm:$false"
    notes: tuple[str, ...] = (EXCHANGE_ONLY,)
    if "new" in verbs and "remove" in verbs[verbs.index("new") :]:
        title = f'See that the transport rule "{name}" is gone: it was made here, and removed again'
        commands: tuple[str, ...] = (listed,)
    elif "new" in verbs:
        title = f'Disable the transport rule "{name}", then remove it'
        commands = (off, f"Remove-TransportRule -Identity {quoted} -Confirm:$false")
        if verbs[0] == "remove":
            notes = (*notes, "One of that name was removed before it: if that was yours, make it again.")
    elif "remove" in verbs:
        title = f'See whose transport rule "{name}" was; make it again if it was yours'
        commands = (listed,)
    elif "disable" in verbs:
        title = f'See whose transport rule "{name}" is; enable it again if it is yours'
        commands = (look, f"# if it is yours: Enable-TransportRule -Identity {quoted} -Confirm:$false")
    elif "set" in verbs:
        title = f'Put the transport rule "{name}" back as it was'
        commands = (look, f"# if it is not yours: {off}")
    else:
        title = f'See whose transport rule "{name}" is, and what was done to it'
        commands = (look, f"# if it is not yours: {off}")
    return Step("remove_transport_rule", title, powershell=commands, notes=notes)


def _done_to(clues: Clues, name: str, of: str) -> tuple[str, ...]:
    """What the alert's records did to what has that name, in their order: new, set, disable, remove."""
    done = []
    for record in clues.records or ({key: value[0] for key, value in clues.fields.items() if value},):
        operation = normalise_operation(record.get("Operation", ""))
        called = next((record[key] for key in _CALLED if key in record), "")
        if operation.endswith(of) and called.lower() == name.lower():
            done.append(operation.partition("-")[0])
    return tuple(done)


def remove_connector(clues: Clues) -> list[Step]:
    """What the alert's records made is switched off and removed; one that was there before is put back."""
    if not clues.is_about("connector"):
        return []
    told = [kind for kind in ("Inbound", "Outbound") if kind.lower() in clues.operation]
    changed = [one for one in CONNECTOR_SETTINGS if clues.has(f"Parameters.{one}")]
    return [
        _new_connector(name, told[0])
        if told and "new" in _done_to(clues, name, f"{told[0].lower()}connector")
        else _changed_connector(name, told or ["Inbound", "Outbound"], changed)
        for name in clues.values(*_CALLED)
    ]


def _new_connector(name: str, kind: str) -> Step:
    quoted = powershell(name)
    return Step(
        "remove_connector",
        f'Switch the mail connector "{name}" off, then remove it',
        powershell=(
            f"Set-{kind}Connector -Identity {quoted} -Enabled $false",
            f"Remove-{kind}Connector -Identity {quoted} -Confirm:$false",
        ),
        notes=(EXCHANGE_ONLY,),
    )


def _changed_connector(name: str, kinds: list[str], changed: list[str]) -> Step:
    """Whose it is no record says, and mail may stop where one's own is switched off."""
    quoted = powershell(name)
    what = f"The record set {', '.join(changed)}. " if changed else ""
    return Step(
        "remove_connector",
        f'Put the mail connector "{name}" back as it was',
        powershell=(
            *(f"Get-{kind}Connector -Identity {quoted} | Format-List" for kind in kinds),
            *(
                f"# if it is not yours: Set-{kind}Connector -Identity {quoted} -Enabled $false"
                for kind in kinds
            ),
        ),
        notes=(EXCHANGE_ONLY, f"{what}Mail stops, or passes unchecked, where a connector of yours is off."),
    )
