"""Whether what a record tells of came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch.detect.derived.operation import normalise_operation

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View

_DONE = {"true", "success", "succeeded", "partiallysucceeded"}
_DONE_BY_WORKLOAD = {
    "exchange": _DONE,
    "azureactivedirectory": {"success", "succeeded", "true"},
}
_WITHOUT_STATUS = {"sharepoint", "onedrive", "microsoftteams"}
_NO_ERROR = {"", "0"}


def ok(view: View) -> tuple[Value, ...]:
    """Whether it came about, by workload; a record that does not say counts as done.

    Sign-ins say `Success` where they failed: the operation and the error's number decide there.
    """
    name = normalise_operation(view.first("Operation"))
    if name == "userloginfailed":
        return (False,)
    if name == "userloggedin":
        return (view.first("ErrorNumber") in _NO_ERROR,)
    workload = view.first("Workload").lower()
    status = view.first("ResultStatus").strip().lower()
    if not status or workload in _WITHOUT_STATUS:
        return (True,)
    return (status in _DONE_BY_WORKLOAD.get(workload, _DONE),)
