"""Whom an alert is about, in a line: the first names of a kind, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from m365watch.detection.alerts.alert import Alert

NAMED_MAX = 50
"""Names of one kind that an alert keeps; how many it leaves out is said."""
_ONE = {"address": "addresses", "mailbox": "mailboxes", "policy": "policies"}


def who(alert: Alert, *, most: int = 1) -> str:
    """The users, or else what the alert names first; empty where it names nobody."""
    kinds = list(dict.fromkeys(kind for kind, _ in alert.entities))
    if not kinds:
        return ""
    return names_of(alert, "user" if "user" in kinds else kinds[0], most=most)


def names_of(alert: Alert, kind: str, *, most: int) -> str:
    """The first names of a kind: ann, bob and 4 more."""
    names = alert.named(kind)
    return some_of(names[:most], len(names) + dict(alert.unnamed).get(kind, 0))


def list_kinds(alert: Alert, *, most: int) -> list[tuple[str, str]]:
    """Each kind of entity, in its order, with its first names."""
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    return [(kind, names_of(alert, kind, most=most)) for kind in kinds]


def some_of(shown: Sequence[str], total: int) -> str:
    """Those that are shown, and how many more there are."""
    more = total - len(shown)
    line = ", ".join(shown)
    return f"{line} and {more:,} more" if more > 0 else line


def notes_of(unnamed: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """A line for each kind of which some are left out: a lake and a program have it, too."""
    return tuple(
        f"{number:,} more {_ONE.get(kind, f'{kind}s')} are not named here; its records name them."
        for kind, number in unnamed
    )
