"""Of much that an alert has to tell, what is grave comes first: what is cut is the harmless rest."""

from __future__ import annotations

from typing import Any

import pytest
from expand import written
from promises import guarantee
from verdicts import knowledge_of, packs

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_text import details_of
from m365watch.detection.fields.privilege_ranking import gravest_first
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.rule_library import PACKS_DIRECTORY

_SCOPES = "openid profile email offline_access User.Read Calendars.Read Contacts.Read Files.ReadWrite.All"
_GRANT = "[] => [[Id: a1, ClientId: c1, ConsentType: {0}, Scope: {1}]]; "
_ROLES = {
    "Exchange Administrator": "29232cdf-9323-42fd-ade2-1d097af3e4de",
    "SharePoint Administrator": "f28a1f50-f6e7-4571-818b-6a12f2af6b6c",
    "Security Administrator": "194ae4cb-b126-40b2-bd5b-6091b380977d",
    "Company Administrator": "62e90394-69f5-4237-9190-012177145e10",
}
_PERMISSIONS = ("Mail.Read", "Files.Read.All", "Sites.Read.All", "RoleManagement.ReadWrite.Directory")


def _alerts(detection: str, *entries: dict[str, Any]) -> list[Alert]:
    """The alerts of a detection; records come ten seconds after one another."""
    library, known = packs(), knowledge_of({"accepted_domains": ["contoso.example"]})
    rules = library.find(detection)
    given = written([{"after": "10s", **one} for one in entries])
    found = find_alerts(with_sources(rules, library), given, knowledge=known)
    return [alert for alert in found if alert.rule_id in {rule.id for rule in rules}]


def _changed(operation: str, shape: str = "app_directory", **new: str) -> dict[str, Any]:
    properties = {name.replace("__", "."): [value, ""] for name, value in new.items()}
    return {"shape": shape, "Operation": operation, "ModifiedProperties": properties}


def _consented(kind: str, scopes: str = _SCOPES) -> dict[str, Any]:
    return _changed(
        "Consent to application.",
        ConsentContext__IsAdminConsent="False",
        ConsentContext__OnBehalfOfAll="False",
        ConsentAction__Permissions=_GRANT.format(kind, scopes),
    )


def _granted() -> dict[str, Any]:
    return _changed(
        "Add delegated permission grant.",
        DelegatedPermissionGrant__Scope=f" {_SCOPES}",
        DelegatedPermissionGrant__ConsentType="AllPrincipals",
    )


def test_the_gravest_of_grave_ones_comes_first() -> None:
    """Of several records three values are told, and an intruder may grant eight."""
    granted = [
        "User.ReadWrite.All",
        "Directory.ReadWrite.All",
        "Application.ReadWrite.All",
        "RoleManagement.ReadWrite.Directory",
    ]

    assert gravest_first(granted)[0] == "RoleManagement.ReadWrite.Directory"


@guarantee(33)
@pytest.mark.parametrize(
    ("detection", "record"),
    [
        ("O01", _consented("Principal")),
        ("O02", _consented("AllPrincipals")),
        ("O02", _granted()),
    ],
)
def test_every_permission_of_a_consent_is_told(detection: str, record: dict[str, Any]) -> None:
    """Eight, of which an application asks for the five harmless ones first: those alone were told."""
    [alert] = _alerts(detection, record)

    assert [one for one in _SCOPES.split() if one not in alert.explanation] == []
    assert alert.explanation.index("Files.ReadWrite.All") < alert.explanation.index("openid")


def test_the_gravest_of_a_hundred_permissions_is_told() -> None:
    """There is no room for all of them, and the one that reads all files is the last."""
    many = " ".join([*(f"Harmless{number}.Read" for number in range(100)), "Files.ReadWrite.All"])
    [alert] = _alerts("O01", _consented("Principal", many))

    assert "Files.ReadWrite.All" in alert.explanation
    assert len(alert.explanation) < 1_000


def test_what_the_lists_call_risky_comes_before_all_else() -> None:
    """A permission that a list gets is to be told before one that nobody minds."""
    listed = [
        line
        for name in ("risky_scopes", "risky_app_roles")
        for line in (PACKS_DIRECTORY / "core" / "lists" / f"{name}.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    every = gravest_first(["openid", "Calendars.Read", *listed])
    assert every[-2:] == ["Calendars.Read", "openid"]


def test_evidence_of_a_consent_says_the_gravest_permissions() -> None:
    """Its own text begins with ids of grants, and was cut before them."""
    [raw] = written([_consented("Principal")])
    told = details_of(raw.decode())

    assert "permissions: Contacts.Read, Files.ReadWrite.All, Calendars.Read" in told
    assert "[[Id:" not in told


@guarantee(33)
def test_of_many_roles_the_one_over_all_is_told() -> None:
    """It came last, and was the one that "and 1 more" stood for."""
    given = [
        _changed(
            "Add member to role.", "directory", Role__DisplayName=f'"{name}"', Role__TemplateId=f'"{one}"'
        )
        for name, one in _ROLES.items()
    ]
    [alert] = _alerts("I16", *given)

    assert "Company Administrator" in alert.explanation
    assert "and 1 more" in alert.explanation


def test_of_many_permissions_the_one_over_roles_is_told() -> None:
    """It is given last of four."""
    given = [
        _changed("Add app role assignment to service principal.", AppRole__Value=one) for one in _PERMISSIONS
    ]
    [alert] = _alerts("O03", *given)

    assert "RoleManagement.ReadWrite.Directory" in alert.explanation


def test_an_outsider_among_many_recipients_is_told() -> None:
    """Six colleagues stand before the one whom a transport rule sends mail to outside."""
    receivers = ";".join([*(f"c{number}@contoso.example" for number in range(6)), "thief@evil.example"])
    rule = {"shape": "cmdlet", "Operation": "New-TransportRule", "Parameters": {"BlindCopyTo": receivers}}
    [alert] = _alerts("B06", rule)

    assert "thief@evil.example" in alert.explanation


def test_what_made_an_alert_graver_is_told() -> None:
    """Three links to read come before the one to change a file, for which the alert is high."""
    links = [
        {
            "shape": "sharing",
            "Operation": "AnonymousLinkCreated",
            "SourceFileName": name,
            "EventData": f"<Type>{kind}</Type>",
        }
        for name, kind in (("a.docx", "View"), ("b.docx", "View"), ("c.docx", "View"), ("d.docx", "Edit"))
    ]
    [alert] = _alerts("S01", *links)

    assert alert.severity == "high"
    assert "d.docx" in alert.explanation
