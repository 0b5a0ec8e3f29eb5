"""An operation's name in the one form in which names are compared."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from m365watch.records.derived_values import Outcome, outcome_of

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View


_DASHES = dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2212), "-")
_TEXT_MAX = 512


def operation(view: View) -> tuple[Value, ...]:
    """The record's operation, normalised."""
    return tuple(normalise_operation(value) for value in view.values("Operation") if isinstance(value, str))


@lru_cache(maxsize=16_384)
def normalise_operation(name: str) -> str:
    """Trimmed, lower case, every dash a plain one: Entra writes U+2013 in some names."""
    return spell_operation(name).lower()


def spell_operation(name: str) -> str:
    """Trimmed, every dash a plain one, and letters as they are: what regular expressions look at."""
    return name[:_TEXT_MAX].strip().translate(_DASHES)


def ok(view: View) -> tuple[Value, ...]:
    """Whether it came about, by workload; a record that does not say counts as done.

    Sign-ins say `Success` where they failed: the operation and the error's number decide there.
    """
    return (outcome_of(partial(_text, view)) is not Outcome.FAILURE,)


def _text(view: View, name: str) -> str:
    value = view.record.get(name)
    return value if type(value) is str else view.first(name)
