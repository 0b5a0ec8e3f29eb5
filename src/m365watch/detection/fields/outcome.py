"""Whether what a record tells of came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch.detection.fields.operations import normalise_operation

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

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
