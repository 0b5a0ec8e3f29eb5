"""Who takes part in a chat, in products that cannot tell whose tenant is whose: all of them count there."""

from __future__ import annotations

from m365watch.detection.rules.condition import list_fields
from m365watch.detection.rules.rule import Rule

OF_MEMBERS = {"stranger_names": "Members.DisplayName", "stranger_addresses": "Members.UPN"}
"""By derived field that leaves out one's own people, the field of the record that has everybody."""


def finds_more(rule: Rule) -> tuple[str, ...]:
    """In what the exported rule finds more than the one here."""
    asked = list_fields(rule.condition) or frozenset() if rule.condition is not None else frozenset()
    if asked.isdisjoint(f"m365.{name}" for name in OF_MEMBERS):
        return ()
    return ("everybody who takes part is looked at, one's own people, too",)
