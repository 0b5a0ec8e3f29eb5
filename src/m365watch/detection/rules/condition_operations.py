"""Which operations a condition can be about at all."""

from __future__ import annotations

from collections.abc import Iterable

from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.rules.condition import Condition, Every, Like, OneOf, Some, Test

SIGN_INS = frozenset(("userloggedin", "userloginfailed"))
"""Operations of which the status says nothing: they tell by name and by the error's number."""


def operations_of(condition: Condition) -> frozenset[str] | None:
    """The operations without which the condition cannot hold; None where it can with any."""
    match condition:
        case Test("Operation" | "m365.operation", OneOf(values)):
            return values
        case Test("Operation" | "m365.operation", Like((str() as word,), _)):
            return frozenset((word,))
        case Every(parts):
            known = [found for part in parts if (found := operations_of(part)) is not None]
            return min(known, key=len, default=None)
        case Some(parts):
            return union_of(operations_of(part) for part in parts)
    return None


def union_of(sets: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """All of them together; None where one of them may be any."""
    found: frozenset[str] = frozenset()
    for one in sets:
        if one is None:
            return None
        found |= one
    return found


def may_be_signin(operations: frozenset[str] | None) -> bool:
    """Whether a record with one of these operations may be a sign-in; None stands for any operation."""
    return operations is None or any(normalise_operation(one) in SIGN_INS for one in operations)
