"""What deleted mail was about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View

EVERYDAY = ("sign-in", "sign in", "log-in", "log in", "login", "newsletter")
"""Such mail comes and goes every day; so do notes on sign-ins, which everybody deletes."""


def telling_subjects(view: View) -> tuple[Value, ...]:
    """The subjects of the mails that were deleted, without those about sign-ins, each judged by itself."""
    return tuple(
        subject
        for subject in view.values("AffectedItems.Subject")
        if isinstance(subject, str) and not any(word in subject.lower() for word in EVERYDAY)
    )
