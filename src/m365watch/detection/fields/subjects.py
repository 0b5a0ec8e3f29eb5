"""Of several mails in one record, which one a rule was about only the rule knows; of one, everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View


def only_subject(view: View) -> tuple[Value, ...]:
    """The subject of the mails of a record, where they have only one; what else went is nobody's affair."""
    found = dict.fromkeys(view.values("AffectedItems.Subject"))
    return tuple(found) if len(found) == 1 else ()
