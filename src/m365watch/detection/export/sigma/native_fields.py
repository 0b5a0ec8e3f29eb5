"""Conditions on derived fields, said again by fields that stand in the record."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.ip_addresses import ADDRESS_FIELDS
from m365watch.detection.rules.condition import (
    Comparison,
    Condition,
    Every,
    Exists,
    IsNull,
    Like,
    Never,
    OneOf,
    SameAs,
    Some,
    Test,
    Wildcard,
    list_fields,
)
from m365watch.detection.rules.condition_operations import may_be_signin
from m365watch.detection.rules.rule import Rule

OF_MEMBERS = {"stranger_names": "Members.DisplayName", "stranger_addresses": "Members.UPN"}
"""By derived field that leaves out one's own people, the field of the record that has everybody."""


def finds_more(rule: Rule) -> tuple[str, ...]:
    """In what the exported rule finds more than the one here."""
    asked = list_fields(rule.condition) or frozenset() if rule.condition is not None else frozenset()
    if asked.isdisjoint(f"m365.{name}" for name in OF_MEMBERS):
        return ()
    return ("everybody who takes part is looked at, one's own people, too",)


_MANY = Wildcard.MANY
_FIRST_OF = {
    "ip": ADDRESS_FIELDS,
    "session": ("DeviceProperties.SessionId", "AppAccessContext.AADSessionId", "SessionId", "UserSessionId"),
    "app": ("ClientAppId", "ApplicationId", "AppId", "AppAccessContext.ClientAppId"),
}
_SERVICES = OneOf(frozenset(("3", "4", "dcadmin", "system")))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the records that a rule is about, and of the organisation."""

    knowledge: Knowledge
    operations: frozenset[str] | None
    """The only operations that they may have; None for any."""


def nativize(condition: Condition, known: Known) -> Condition:
    """The condition over native fields alone. Raises: Unsayable: a derived field is nowhere in the record."""
    match condition:
        case Every(parts):
            return Every(tuple(nativize(part, known) for part in parts))
        case Some(parts):
            return Some(tuple(nativize(part, known) for part in parts))
        case Never(part):
            return Never(nativize(part, known))
        case Test(str() as field, comparison) if field.startswith("m365."):
            return _native_test(field.removeprefix("m365."), comparison, known)
        case Test(_, SameAs(other)):
            native_field(other)
    return condition


def native_field(field: str) -> str:
    """The field, if it stands in the record. Raises: Unsayable."""
    if field == "m365.operation":
        return "Operation"
    if field.startswith("m365."):
        raise Unsayable(f"{field} is worked out here, and stands in no field of the record")
    if "#" in field:
        raise Unsayable(f"{field}: names among named values are asked for, and Sigma has no word for that")
    return field


def _native_test(name: str, comparison: Comparison, known: Known) -> Condition:
    if name == "operation":
        return Test("Operation", comparison)
    if name in _FLAGS:
        return _flag(_FLAGS[name](known), comparison)
    if name in OF_MEMBERS:
        return Test(OF_MEMBERS[name], comparison)
    kind, _, rest = name.partition(".")
    if kind in ("gained", "lost") and rest:
        return _difference(kind, rest, comparison)
    if name in _FIRST_OF and isinstance(comparison, Exists | IsNull) and name != "ip":
        there = Some(tuple(Test(field, Like((Wildcard.ONE, _MANY))) for field in _FIRST_OF[name]))
        return there if isinstance(comparison, Exists) and comparison.wanted else Never(there)
    raise Unsayable(f"m365.{name} is worked out here, and stands in no field of the record")


def _flag(holds: Condition, comparison: Comparison) -> Condition:
    match comparison:
        case Like((str() as word,), _):
            words = frozenset((word.lower(),))
        case OneOf(values):
            words = values
        case _:
            raise Unsayable("a flag is compared with what is neither true nor false")
    if words not in (frozenset(("true",)), frozenset(("false",))):
        raise Unsayable("a flag is compared with what is neither true nor false")
    return holds if "true" in words else Never(holds)


def _ok(known: Known) -> Condition:
    """As `m365.ok` has it: sign-ins by operation and error, the rest by status."""
    done = Test("ResultStatus", OneOf(frozenset(("true", "success", "succeeded"))))
    partly = Every(
        (
            Test("ResultStatus", Like(("PartiallySucceeded",))),
            Never(Test("Workload", Like(("AzureActiveDirectory",)))),
        )
    )
    silent = Test("Workload", OneOf(frozenset(("sharepoint", "onedrive", "microsoftteams"))))
    unsaid = Never(Test("ResultStatus", Like((Wildcard.ONE, _MANY))))
    changed = Some((done, partly, silent, unsaid))
    if not may_be_signin(known.operations):
        return changed
    signed_in = Test("Operation", Like(("UserLoggedIn",)))
    no_error = Some(
        (
            Test("ErrorNumber", OneOf(frozenset(("", "0")))),
            Never(Test("ErrorNumber", Like((Wildcard.ONE, _MANY)))),
        )
    )
    return Every(
        (
            Never(Test("Operation", Like(("UserLoginFailed",)))),
            Some(
                (
                    Every((signed_in, no_error)),
                    Every((Never(signed_in), changed)),
                )
            ),
        )
    )


def _guest(_: Known) -> Condition:
    names = ("UserId", "TargetUserOrGroupName", "Target.ID")
    marked = tuple(Test(name, Like((_MANY, "#ext#", _MANY))) for name in names)
    return Some((*marked, Test("TargetUserOrGroupType", Like(("Guest",)))))


def _people(people: Collection[str], what: str) -> Condition:
    if not people:
        raise Unsayable(f"it is about {what}, and no list of them is set")
    return Some(tuple(Test(name, OneOf(frozenset(people))) for name in ("UserId", "MailboxOwnerUPN")))


_FLAGS: dict[str, Callable[[Known], Condition]] = {
    "human": lambda _: Never(Test("UserType", _SERVICES)),
    "ok": _ok,
    "guest": _guest,
    "vip": lambda known: _people(known.knowledge.vips, "important people"),
    "admin": lambda known: _people(known.knowledge.admins, "administrators"),
}


def _difference(kind: str, name: str, comparison: Comparison) -> Condition:
    """One certain element that is in one of the property's values and not in the other."""
    values = comparison.values if isinstance(comparison, OneOf) else ("",)
    is_certain = isinstance(comparison, OneOf) or (
        isinstance(comparison, Like) and not any(isinstance(one, Wildcard) for one in comparison.parts)
    )
    if not is_certain or len(values) > 1:
        raise Unsayable(f"m365.{kind}.{name}: Sigma takes no list from another, to see what came new")
    inner, outer = ("new", "old") if kind == "gained" else ("old", "new")
    return Every(
        (
            Test(f"ModifiedProperties.{name}.{inner}", comparison),
            Never(Test(f"ModifiedProperties.{name}.{outer}", comparison)),
        )
    )
