"""What rules of others spell in another way than the records have it."""

from __future__ import annotations

from copy import copy

from sigma.types import SigmaNumber, SigmaString, SigmaType

CLICK_ACTION = "UrlClickAction"
CLICK_ACTIONS = {
    "2": "Blockpage",
    "3": "PendingDetonationPage",
    "4": "BlockPageOverride",
    "5": "PendingDetonationPageOverride",
}
"""What somebody did at a page of Safe Links. Source: the enumeration URLClickAction of the schema."""


def without_blanks(value: SigmaString) -> SigmaString:
    """As JSON stands here, where others have a blank between its parts."""
    found = copy(value)
    found.s = type(value.s)(
        part.replace('": "', '":"').replace('", "', '","') if isinstance(part, str) else part
        for part in value.s
    )
    return found


def by_both(value: SigmaType) -> tuple[SigmaType, ...]:
    """The action as it is asked for, and by its other name: some records have the number, some the word."""
    text = str(value.number) if isinstance(value, SigmaNumber) else ""
    if isinstance(value, SigmaString) and not value.contains_special():
        text = value.to_plain()
    for number, word in CLICK_ACTIONS.items():
        if text.lower() in (number, word.lower()):
            return (SigmaString(number), SigmaString(word))
    return (value,)
