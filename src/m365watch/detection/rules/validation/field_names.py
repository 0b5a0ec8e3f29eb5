"""Fields that are worked out here: whether there is one of a name, and which there are."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache

from m365watch.detection.fields.field_catalog import is_derived, list_names
from m365watch.detection.fields.record_view import MAPS
from m365watch.detection.rules.validation.diagnostics import Fault, Where, perhaps

TRUTHS = frozenset(["admin", "guest", "hosting", "human", "ok", "tor", "vip", "vpn"])
"""Those that are true or false, without their `m365.`."""
_FIELDS = (
    "CreationTime",
    "Operation",
    "OrganizationId",
    "RecordType",
    "UserId",
    "UserKey",
    "UserType",
    "Workload",
    *sorted(MAPS),
)
"""Fields to which none of the feed's other fields comes close (ClientIP has ClientIPs)."""
_CLOSER = 0.93


def is_unknown(field: str) -> bool:
    """Whether a field would be worked out here, if there was such a one."""
    return field.startswith("m365.") and not is_derived(field.removeprefix("m365."))


def looks_like_a_field(name: str) -> bool:
    """Whether it is worked out here, or may be one of the feed's, which begin with a capital letter."""
    if name.startswith("m365."):
        return is_derived(name.removeprefix("m365."))
    return name[:1].isupper()


def no_such_field(field: str, where: Where) -> Fault:
    """A field of that name, of which there is none."""
    known = list_names()
    close = perhaps(field.removeprefix("m365."), [name.removeprefix("m365.") for name in known])
    told = close.replace("mean ", "mean m365.") or f"; there are {', '.join(known)}"
    return Fault(where, f"{field} is no derived field{told}")


def meant_field(field: str) -> str:
    """The field that was meant, where one of another case or with one letter more or less is there."""
    return _meant_first(field.partition(".")[0])


@lru_cache(maxsize=1_024)
def _meant_first(first: str) -> str:
    """The same of a field's first part; rules name the same few again and again."""
    if not first or first in _FIELDS or first.removesuffix("s") in _FIELDS:
        return ""
    same = next((one for one in _FIELDS if one.lower() == first.lower()), "")
    return same or next(iter(get_close_matches(first, _FIELDS, n=1, cutoff=_CLOSER)), "")


def misnamed(field: str, where: Where) -> Iterator[Fault]:
    """That there is no field of that name, as far as one can tell."""
    if is_unknown(field):
        yield no_such_field(field, where)
    elif meant := meant_field(field):
        yield Fault(where, f"no record has {field}; did you mean {meant}?")
