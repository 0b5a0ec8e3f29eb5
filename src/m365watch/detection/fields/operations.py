"""An operation's name in the one form in which names are compared."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

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


_DONE = {"true", "success", "succeeded", "partiallysucceeded"}
_DONE_BY_WORKLOAD = {
    "exchange": _DONE,
    "azureactivedirectory": {"success", "succeeded", "true"},
    # An alert of Defender for Cloud Apps has its own state here; it stands until it is dismissed.
    "mcas": {*_DONE, "new", "open", "active"},
}
_WITHOUT_STATUS = {"sharepoint", "onedrive", "microsoftteams"}
_NO_ERROR = {"", "0"}


def ok(view: View) -> tuple[Value, ...]:
    """Whether it came about, by workload; a record that does not say counts as done.

    Sign-ins say `Success` where they failed: the operation and the error's number decide there.
    """
    name = normalise_operation(_text(view, "Operation"))
    if name == "userloginfailed":
        return (False,)
    if name == "userloggedin":
        return (_text(view, "ErrorNumber") in _NO_ERROR,)
    workload = _text(view, "Workload").lower()
    status = _text(view, "ResultStatus").strip().lower()
    if not status or workload in _WITHOUT_STATUS:
        return (True,)
    return (status in _DONE_BY_WORKLOAD.get(workload, _DONE),)


def _text(view: View, name: str) -> str:
    value = view.record.get(name)
    return value if type(value) is str else view.first(name)
