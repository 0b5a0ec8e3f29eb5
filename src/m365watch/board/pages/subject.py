"""What an investigation is about, and why there is nothing to tell where it is about nothing."""

from __future__ import annotations

from m365watch.board.query.query_context import View
from m365watch.board.widgets.widget_types import Empty

ABOUT = ("user", "ip", "app", "operation")
"""What narrows a view to something that can be investigated, beside what is mentioned."""
NOBODY = Empty(
    "Nobody and nothing is named yet.",
    "Choose somebody of the alerts or of the most active people below, narrow the view above, or click a"
    " value on any page of an alert or a record.",
)
NOTHING_COMPARED = Empty("Once somebody or something is named, what is new about it stands here.")
UNSEEN = Empty(
    "You see no contents of records, and a text is looked for in these alone.",
    "Name a person, an address or an application, or ask somebody who may see them.",
)


def is_about_something(view: View) -> bool:
    """Whether the view names whom or what it is about."""
    return bool(view.mentions) or any(view.narrowing.of(name) for name in ABOUT)


def is_unseen(view: View) -> bool:
    """Whether a text is looked for by somebody who must not see any: no count may say whether it is there."""
    return bool(view.given("text")) and not view.access.sees_contents


def why_nothing(view: View, unnamed: Empty = NOBODY) -> Empty | None:
    """Why nothing is told, `unnamed` where it is about nobody; None where something can be."""
    if is_unseen(view):
        return UNSEEN
    return None if is_about_something(view) else unnamed
