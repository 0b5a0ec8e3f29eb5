"""Words of a rule for which a plan finds nothing: what was done leaves nothing to do, or nobody says to what.

At three in the morning a step that says no more than its word reads as work that is left undone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from m365watch.detect.derived.operation import normalise_operation
from m365watch.detect.rule import Rule
from m365watch.respond.app_names import acting_app
from m365watch.respond.clues import gather_clues
from m365watch.respond.joining import records_about
from m365watch.respond.quoting import is_account, powershell
from m365watch.respond.reading import Told
from m365watch.respond.steps import Step
from m365watch.respond.whose import is_service

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
    {"disable_account", "remove_device", "reset_password", "restore_mfa", "revoke_sessions", "scan_device"}
)
"""Words for the accounts of people: where an application or a service did it, there is none."""

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
    "By hand. The alert does not name what this has to be done to; its records may: see `m365watch alerts"
    " show`."
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
}


def is_idle(word: str, every: Sequence[Told], rules: Mapping[str, Rule]) -> bool:
    """Whether what was done leaves nothing to do for the word, as far as that is known for certain."""
    if word in _OF_PEOPLE:
        return all(_did_no_account(told) for told in every)
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
    entities = gather_clues(told.alert, ()).entities
    named = (*entities.get("user", ()), *entities.get("actor", ()))
    return bool(named) and all(map(_is_no_account, named))


def _is_no_account(name: str) -> bool:
    return acting_app(name) is not None or is_service(name) or bool(_NOBODY.fullmatch(name))


def find_first(word: str, told: Told) -> Step:
    """The step for who has to find out what the word has to be done to."""
    clues = gather_clues(told.alert, told.matches)
    readers = [one.name for one in clues.accounts if is_account(one.name)]
    if word == "remove_oauth_grant" and clues.operation == "mailitemsaccessed" and readers:
        return _see_consents(readers[0])
    title, why = _TITLES.get(word, ("", ""))
    return Step(word, title or sentence(word), notes=((why or _NOTHING).format(clues.first_at),))


def _see_consents(account: str) -> Step:
    who = powershell(account)
    return Step(
        "remove_oauth_grant",
        f"See which applications {account} lets at mail",
        powershell=(f"Get-MgUserOauth2PermissionGrant -UserId {who} -All | Format-List Id,ClientId,Scope",),
        notes=(
            (
                "By hand: the records name no application; what reads with the account's own sign-in ends"
                " with its sessions. One that is not theirs: Remove-MgOauth2PermissionGrant."
            ),
        ),
    )


def sentence(word: str) -> str:
    """A word as a sentence."""
    said = word.replace("_", " ")
    return f"{said[:1].upper()}{said[1:]}"
