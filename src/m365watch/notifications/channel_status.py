"""How the targets stand, for `status` and `m365watch alerts notify`; and what was refused, tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.file_access import is_there
from m365watch.notifications.notification import Manner, Notification, Standing, Tiding
from m365watch.notifications.notification_database import FILE_NAME, NOTIFICATION, NotificationFile

ASIDE_SHOWN_MAX = 1_000
_EARLIER = "Alerts of a digest that was refused"
"""Under this title a later digest counts them."""


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """How a target stands."""

    name: str
    since_ms: int
    sent: int
    """Notifications that it has taken."""
    waiting: int
    """Alerts that wait for their turn, those counted only included."""
    aside: int
    """Notifications that it refused, and that are kept."""
    tries: int
    """Failed ones since the last that did not."""
    next_ms: int
    """When it is tried again; 0: as soon as there is something."""
    last_sent_ms: int
    trouble: str
    trouble_at_ms: int
    oldest_ms: int
    """Since when the oldest of what is due has waited; 0: nothing is due."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A notification that its target refused."""

    number: int
    target: str
    at_ms: int
    reason: str
    notification: Notification


@dataclass(frozen=True, slots=True)
class Standings:
    """How targets stand, and what they have refused."""

    figures: tuple[TargetFigures, ...] = ()
    aside: tuple[Aside, ...] = ()
    fault: CollectorError | None = None
    """Why none of it can be read."""


@contextmanager
def opened(directory: Path, *, looks_only: bool = True) -> Iterator[NotificationFile | None]:
    """The file in the state directory, beside a collector that may be running; None where there is none yet.

    Raises: OutputUnusable; OutputUnavailable.
    """
    path = directory / FILE_NAME
    if not is_there(path):
        yield None
        return
    file = NotificationFile(path, looks_only=looks_only)
    try:
        with file.reading():
            yield file
    finally:
        file.close()


def read_standings(directory: Path, names: Collection[str], *, now_ms: int) -> Standings:
    """How these targets stand; those that no run has known yet are left out.

    Raises: OutputUnusable; OutputUnavailable.
    """
    with opened(directory) as file:
        if file is None:
            return Standings()
        figures = tuple(one for one in list_figures(file, now_ms=now_ms) if one.name in names)
        aside = [one for name in names for one in list_aside(file, name)]
        aside.sort(key=lambda one: -one.number)
        return Standings(figures, tuple(aside))


def look_at_standings(directory: Path, names: Collection[str], *, now_ms: int) -> Standings:
    """The same, for who looks at much else; the fault where the file cannot be read."""
    try:
        return read_standings(directory, names, now_ms=now_ms)
    except (OutputUnusable, OutputUnavailable) as error:
        return Standings(fault=error)


@dataclass(frozen=True, slots=True)
class WhoKnows:
    """A target that was told of an alert, or is to be."""

    target: str
    at_ms: int
    """When it was last told; 0: not yet."""
    in_digest: bool
    """Whether it was told with many others alone."""
    waits: bool
    """Whether there is something to tell it now."""


def who_knows(directory: Path, alert_id: str, *, now_ms: int) -> list[WhoKnows]:
    """The targets that know of the alert, by name. Raises: OutputUnusable; OutputUnavailable."""
    with opened(directory) as file:
        if file is None:
            return []
        due = {
            target
            for (target,) in file.run(
                "SELECT target FROM waiting WHERE alert = ? AND due <= ?", (alert_id, now_ms)
            )
        }
        told = {target: file.told(target, alert_id) for target in file.list_targets()}
        return [
            WhoKnows(
                target,
                one.at_ms if one is not None else 0,
                in_digest=one is not None and one.manner is Manner.IN_DIGEST,
                waits=target in due,
            )
            for target, one in sorted(told.items())
            if one is not None or target in due
        ]


def list_figures(file: NotificationFile, *, now_ms: int) -> list[TargetFigures]:
    """How each target stands, by name."""
    rows = file.run(
        "SELECT name, since, sent, (SELECT count(*) FROM waiting WHERE target = name AND due <= ?)"
        " + (SELECT coalesce(sum(count), 0) FROM folded WHERE target = name),"
        " (SELECT count(*) FROM aside WHERE target = name), tries, next, last_sent, trouble, trouble_at,"
        " (SELECT coalesce(min(since), 0) FROM waiting WHERE target = name AND due <= ?)"
        " FROM target ORDER BY name",
        (now_ms, now_ms),
    )
    return [TargetFigures(*row) for row in rows]


def list_aside(file: NotificationFile, target: str) -> list[Aside]:
    """What the target refused, the latest first."""
    rows = file.run(
        "SELECT number, target, at, reason, body FROM aside WHERE target = ? ORDER BY number DESC LIMIT ?",
        (target, ASIDE_SHOWN_MAX),
    )
    return [
        Aside(number, target, at_ms, reason, NOTIFICATION.decode(body))
        for number, target, at_ms, reason, body in rows
    ]


def _let_wait(file: NotificationFile, aside: Aside, now_ms: int) -> None:
    """Let what was refused wait as if the target had never heard of it; what is not known is counted."""
    for tiding, standing in _told_in(file, aside.notification):
        alert_id = standing.alert.id
        if tiding is Tiding.NEW:
            # It counts as told, and what changes before its turn would be told in its place.
            file.run("DELETE FROM told WHERE (target, alert) = (?, ?)", (aside.target, alert_id))
        if file.standing(alert_id) is None:
            file.put_standing(standing)
        if not file.waits(aside.target, alert_id):
            file.put_waiting(aside.target, standing, tiding, due_ms=now_ms, now_ms=now_ms)
    digest = aside.notification.digest
    if digest is not None:
        known = Counter(one.severity for one in digest.covered if file.standing(one.alert_id) is not None)
        for severity, count in digest.counts:
            if count > known[severity]:
                span_ms = digest.first_at_ms, digest.last_at_ms
                file.fold(aside.target, severity, _EARLIER, count - known[severity], span_ms)


def _told_in(file: NotificationFile, notification: Notification) -> list[tuple[Tiding, Standing]]:
    """The alerts that it is about, of which something is known."""
    if notification.standing is not None:
        return [(notification.tiding, notification.standing)]
    covered = notification.digest.covered if notification.digest is not None else ()
    return [
        (one.tiding, standing) for one in covered if (standing := file.standing(one.alert_id)) is not None
    ]


def try_again(file: NotificationFile, targets: Iterable[str], *, now_ms: int) -> int:
    """Let what these targets refused wait once more, and try each at once; how many notifications.

    Raises: OutputUnavailable.
    """
    names = set(targets)
    found = [aside for name in names for aside in list_aside(file, name)]
    with file.transaction():
        for one in found:
            file.run("DELETE FROM aside WHERE number = ?", (one.number,))
            _let_wait(file, one, now_ms)
        for name in names:
            file.run("UPDATE target SET next = 0 WHERE name = ?", (name,))
    return len(found)
