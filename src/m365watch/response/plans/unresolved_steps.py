"""Words of a rule for which a plan finds nothing: what was done leaves nothing to do, or nobody says to what.

At three in the morning a step that says no more than its word reads as work that is left undone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.rules.rule import Rule
from m365watch.response.plans.alert_evidence import GROUP_FIELD, gather_clues
from m365watch.response.plans.alert_records import Told, records_about
from m365watch.response.plans.app_ids import acting_app
from m365watch.response.plans.principal_ownership import is_service
from m365watch.response.steps.command_escaping import is_account, powershell
from m365watch.response.steps.exchange_identities import list_every
from m365watch.response.steps.step import Step

_INBOX_RULES = ("-inboxrule", "updateinboxrules")
_ABOUT: Mapping[str, tuple[str, ...]] = {
    "remove_connector": ("connector",),
    "remove_forwarding": (*_INBOX_RULES, "set-mailbox"),
    "remove_inbox_rule": _INBOX_RULES,
    "remove_transport_rule": ("-transportrule",),
}
"""How the operations end that a word is about; any other leaves it nothing to do."""
_NOT_ABOUT: Mapping[str, frozenset[str]] = {
    "remove_file": frozenset({"timaildata", "tiurlclickdata"}),
    "remove_mail": frozenset({"atpdetection", "tiurlclickdata"}),
}
"""Operations that leave a word nothing to do, of words that are about many."""
_OF_PEOPLE = frozenset(
    {"disable_account", "remove_device", "reset_password", "restore_mfa", "revoke_sessions"}
)
"""Words for the accounts of people: where an application or a service did it, there is none.

Not so the device: it is the service that finds malware, in what came from somebody's.
"""
_OF_APPLICATIONS = frozenset({"disable_application", "remove_credential"})
"""Words for what a role was given to: a group is no application, whatever it is called."""

_NOBODY = re.compile(r"(?:microsoft|nt authority)\\.*|urn:spo:anon.*|anonymous", re.IGNORECASE | re.DOTALL)
"""What records have in an account's place where a service did it, or whoever has a link."""
_NO_ACCOUNT = (
    "By hand: the alert names no account that is yours for certain. `m365watch alerts show --raw` has all"
    " that its records say of who it was; of a chat, look at its members."
)
_NO_APPLICATION = (
    "By hand: the records name it by no id. Entra shows it below Audit logs, at the time of the first record:"
    " {}."
)
_NOTHING = (
    "By hand: the alert does not name it so that a command could. `m365watch alerts show --raw` has all that"
    " its records say."
)
_TITLES: Mapping[str, tuple[str, str]] = {
    "disable_account": ("Find the account, and disable it", _NO_ACCOUNT),
    "remove_device": ("Find the account, and look at its devices", _NO_ACCOUNT),
    "reset_password": ("Find the account, and give it a new password", _NO_ACCOUNT),
    "restore_mfa": ("Find the account, and look at its second factors", _NO_ACCOUNT),
    "revoke_sessions": ("Find the account, and end its sessions", _NO_ACCOUNT),
    "scan_device": ("Find whose device it is, and have it searched for malware", _NO_ACCOUNT),
    "disable_application": ("Find the application, and see whether it has to be disabled", _NO_APPLICATION),
    "remove_credential": ("Find the application, and take away what was added to sign in", _NO_APPLICATION),
    "remove_oauth_grant": ("Find the application, and take away the permission", _NO_APPLICATION),
    "remove_owner": ("Find the application, and take away the owner", _NO_APPLICATION),
    "remove_user_consent": ("Find the application, and take away the consent", _NO_APPLICATION),
    "see_who_signed_in": ("See which of the accounts that were tried signed in", _NOTHING),
    "block_address": ("Find from where it came, and see whether that has to be blocked", _NOTHING),
    "block_external_user": ("Find who came from outside, and shut them out", _NOTHING),
    "block_indicator": ("Find what of the list it was, and block it", _NOTHING),
    "disable_anonymous_link": ("Find the file, and remove the links with which anyone can open it", _NOTHING),
    "disable_flow": ("Find the flow, and switch it off", _NOTHING),
    "remove_connector": ("Find the mail connector, and see whose it is", _NOTHING),
    "remove_file": ("Find the file, and remove it", _NOTHING),
    "remove_forwarding": ("Find the mailbox, and see to whom it forwards", _NOTHING),
    "remove_group_member": ("Find who got into the group, and take them out of it", _NOTHING),
    "remove_inbox_rule": ("Find the mailbox, and look at its rules", _NOTHING),
    "remove_mail": ("Find the mail, and remove it from all mailboxes", _NOTHING),
    "remove_mailbox_permission": ("Find the mailbox, and see who was let into it", _NOTHING),
    "remove_role": ("Find who got the role, and take it away", _NOTHING),
    "remove_sharing": ("Find what was shared, and with whom", _NOTHING),
    "remove_site_admin": ("Find the site, and see who administers it", _NOTHING),
    "remove_transport_rule": ("Find the transport rule, and see whose it is", _NOTHING),
    "restore_audit": ("Find what is recorded no more, and switch it on", _NOTHING),
    "restore_federation": ("Find the domain, and see how it signs people in", _NOTHING),
    "restore_files": ("Find the site, and bring its files back", _NOTHING),
    "restore_policy": ("Find the policy, and put it back", _NOTHING),
    "restore_sharing_policy": ("Find what may be shared with whom by now, and put it back", _NOTHING),
}

_APP = "@{n='Application';e={(Get-MgServicePrincipal -ServicePrincipalId $_.ClientId).DisplayName}}"
_KINDS: Mapping[str, tuple[str, ...]] = {
    "remove_connector": ("InboundConnector", "OutboundConnector"),
    "remove_transport_rule": ("TransportRule",),
}
"""What of Exchange's is shown, for who has to pick."""


def is_idle(word: str, every: Sequence[Told], rules: Mapping[str, Rule]) -> bool:
    """Whether what was done leaves nothing to do for the word, as far as that is known for certain."""
    if word in _OF_PEOPLE:
        return all(_did_no_account(told) for told in every)
    if word in _OF_APPLICATIONS:
        return all(_went_to_a_group(told) for told in every)
    operations = [
        normalise_operation(one.values.get("Operation", ""))
        for told in every
        for one in records_about(word, told, rules)[0]
    ]
    if not operations or not all(operations):
        return False
    if word in _ABOUT:
        return not any(one.endswith(_ABOUT[word]) for one in operations)
    return set(operations) <= _NOT_ABOUT.get(word, frozenset())


def _did_no_account(told: Told) -> bool:
    clues = gather_clues(told.alert, told.matches)
    named = (*clues.entities.get("user", ()), *clues.entities.get("actor", ()))
    return bool(named) and all(one.lower() in clues.groups or _is_no_account(one) for one in named)


def _went_to_a_group(told: Told) -> bool:
    return bool(told.matches) and all(one.values.get(GROUP_FIELD) for one in told.matches)


def _is_no_account(name: str) -> bool:
    return acting_app(name) is not None or is_service(name) or bool(_NOBODY.fullmatch(name))


def find_first(word: str, told: Told) -> Step:
    """The step for who has to find out what the word has to be done to."""
    clues = gather_clues(told.alert, told.matches)
    readers = [one.name for one in clues.accounts if is_account(one.name)]
    if word == "remove_oauth_grant" and clues.operation == "mailitemsaccessed" and readers:
        return _see_consents(readers[0])
    title, why = _TITLES[word]
    listed = tuple(list_every(kind) for kind in _KINDS.get(word, ()))
    return Step(word, title, powershell=listed, notes=(why.format(clues.first_at),))


def _see_consents(account: str) -> Step:
    who = powershell(account)
    return Step(
        "remove_oauth_grant",
        f"See which applications {account} lets at mail",
        powershell=(f"Get-MgUserOauth2PermissionGrant -UserId {who} -All | Format-List Id,{_APP},Scope",),
        notes=(
            (
                "By hand: the records name no application; what reads with the account's own sign-in ends"
                " with its sessions. One that is not theirs: Remove-MgOauth2PermissionGrant."
            ),
        ),
    )


def title_of(word: str) -> str:
    """What there is to do where a thing is not named so that a command could."""
    return _TITLES[word][0]


def sentence(word: str) -> str:
    """A word of a rule of somebody's own as a sentence."""
    said = word.replace("_", " ")
    return f"{said[:1].upper()}{said[1:]}"
