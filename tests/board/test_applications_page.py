"""Consents and roles, as records of the directory tell them."""

from __future__ import annotations

import json
from typing import Any

from asking import view_of
from m365watch.board.pages.applications import _consent, _consented, _role_of, _target
from m365watch.board.widgets.change_flags import Mark
from m365watch.detection.rules.severity import Severity

PERMISSIONS = (
    "[[Id: 1, Scope: User.Read, CreatedDateTime: ]] => [[Id: 1, ConsentType: AllPrincipals, Scope: Mail.Read"
    " openid, CreatedDateTime: ], [Id: 2, Scope: Mail.Read, CreatedDateTime: ]]; "
)


def consent(**modified: str) -> dict[str, Any]:
    return {"ModifiedProperties": [{"Name": name, "NewValue": value} for name, value in modified.items()]}


def test_scopes_are_those_that_were_given() -> None:
    """Each once, and not those that stood there before."""
    assert _consented(consent(**{"ConsentAction.Permissions": PERMISSIONS})) == "Mail.Read openid"
    assert _consented({}) == ""


def test_a_consent_for_everybody_to_mail_stands_out() -> None:
    """What it is let at, and that it is for everybody, are why."""
    record = consent(
        **{"ConsentContext.IsAdminConsent": '["True"]', "ConsentAction.Permissions": PERMISSIONS}
    )
    row = (0, "Consent to application.", "ann@x", "", "ok", "app", json.dumps(record), "")
    told = _consent(view_of(), row)

    assert told.cells[4].text == "Mail.Read openid"
    assert told.marks == [Mark("may use Mail.Read", Severity.HIGH), Mark("for everybody", Severity.MEDIUM)]


def test_a_target_is_named_as_people_know_it() -> None:
    """By an address, else by a name; a record of another shape has none."""
    record = {"Target": [{"ID": "1", "Type": 2}, {"ID": "Planner", "Type": 1}, {"ID": "bob@x", "Type": 5}]}

    assert _target(record) == "bob@x"
    assert _target({"Target": record["Target"][:2]}) == "Planner"
    assert _target({"Target": [7, None]}) == ""


def test_a_role_that_was_taken_is_named_too() -> None:
    """Its name stands in the old value then."""
    taken = {"ModifiedProperties": [{"Name": "Role.DisplayName", "NewValue": "", "OldValue": '"Reader"'}]}

    assert _role_of(taken) == "Reader"
