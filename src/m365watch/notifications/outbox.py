"""The verbs of the file of notifications: what changed is taken, a turn begins, and is settled or fails.

Each is one transaction, so that after a crash a notification is either told or tried again, with the same
key: at least once, and never forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from m365watch.config.models.notifications import ChannelSection
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import (
    Covered,
    Manner,
    Notification,
    Standing,
    Tiding,
    Told,
    cover,
    make_digest,
    make_notification,
)
from m365watch.notifications.notification_database import NotificationFile, Outgoing
from m365watch.notifications.notification_policy import MINUTE_MS, Waiting, decide, told_state

WAITING_MAX = 5_000
"""Alerts that wait for one target; beyond it the least severe are only counted, for the next digest."""
ASIDE_MAX = 1_000
"""Notifications of one target that are kept aside; the oldest make room."""
BEFORE_MS = 8 * 86_400_000
"""An alert that ended so long before a target was one is not told it: it comes of a file made anew, for the
service serves 7 days."""
KEPT_MS = 100 * 86_400_000
"""How long it is remembered what was told; alerts themselves are kept for 90 days."""


class NotificationStore(NotificationFile):
    """What every target was told, what waits for it, and what is being tried."""

    def _is_outgoing(self, target: str, alert_id: str) -> bool:
        """Whether the target is being told of the alert."""
        if target not in self._alerts_out:
            outgoing = self.outgoing(target)
            self._alerts_out[target] = outgoing.alert_ids if outgoing is not None else frozenset()
        return alert_id in self._alerts_out[target]

    def _since_ms(self, target: str) -> int:
        if target not in self._sinces:
            self._sinces = self.list_targets()
        return self._sinces.get(target, 0)

    # Targets ------------------------------------------------------------------------------------

    def register(self, names: Iterable[str], *, now_ms: int) -> dict[str, int]:
        """Know these targets and no others; how much waited for each of the others, which is given up."""
        wanted = set(names)
        given_up: dict[str, int] = {}
        with self.transaction():
            for name in self.list_targets():
                if name not in wanted:
                    given_up[name] = self.count_waiting(name)
                    for table in ("told", "waiting", "folded", "outgoing", "aside", "pace"):
                        self.run(f"DELETE FROM {table} WHERE target = ?", (name,))  # noqa: S608 - a constant
                    self.run("DELETE FROM target WHERE name = ?", (name,))
            for name in wanted:
                self.run("INSERT OR IGNORE INTO target (name, since) VALUES (?, ?)", (name, now_ms))
        self._sinces = {}
        return given_up

    # Alerts -------------------------------------------------------------------------------------

    def take(
        self,
        changes: Sequence[tuple[str, Standing | None]],
        sections: Mapping[str, ChannelSection],
        *,
        now_ms: int,
    ) -> None:
        """Know how these alerts stand (None: gone), and have each target told what there is to tell.

        Taking the same again changes nothing.
        """
        with self.transaction():
            for alert_id, given in changes:
                standing = given if given is not None else self._gone(alert_id)
                if standing is None:
                    continue
                concerned = [self._concern(name, standing, one, now_ms) for name, one in sections.items()]
                if any(concerned):
                    self.put_standing(standing)
            for name in sections:
                self._fold(name, now_ms)

    def _gone(self, alert_id: str) -> Standing | None:
        """How an alert that is gone stood last; None where nobody has anything of it."""
        known = self.standing(alert_id)
        return None if known is None else msgspec.structs.replace(known, is_gone=True)

    def _concern(self, target: str, standing: Standing, section: ChannelSection, now_ms: int) -> bool:
        """Have the target told; whether it has to do with the alert."""
        if not standing.is_gone:
            self._take_over(target, standing)
        told = self.told(target, standing.alert.id)
        if self._is_outgoing(target, standing.alert.id):
            return True  # What comes after it is decided once it is told.
        if told is None and standing.alert.last_at_ms < self._since_ms(target) - BEFORE_MS:
            return False
        self._await(target, standing, told, section, now_ms)
        return told is not None or self.waits(target, standing.alert.id)

    def _take_over(self, target: str, standing: Standing) -> None:
        """Where an alert has taken the place of others, the target knows it under the first one's id."""
        own = standing.alert.id
        for former in standing.alert.formerly:
            self.drop_waiting(target, former)
            told = self.told(target, former)
            if told is not None and self.told(target, own) is None and not self._is_outgoing(target, own):
                self.put_told(target, own, told)
                self.run("DELETE FROM told WHERE target = ? AND alert = ?", (target, former))

    def _await(
        self, target: str, standing: Standing, told: Told | None, section: ChannelSection, now_ms: int
    ) -> None:
        due = decide(told, standing, section, now_ms=now_ms)
        if due is None:
            self.drop_waiting(target, standing.alert.id)
        else:
            self.put_waiting(target, standing, due.tiding, due_ms=due.at_ms, now_ms=now_ms)

    def _fold(self, target: str, now_ms: int) -> None:
        """Of more alerts than may wait, count the least severe and oldest; they are in the next digest."""
        more = self.count_waiting(target) - WAITING_MAX
        if more <= 0:
            return
        rows = self.run(
            "SELECT alert, tiding FROM waiting WHERE target = ? AND growth"
            " ORDER BY rank, since, alert LIMIT ?",
            (target, more),
        ).fetchall()
        for alert_id, tiding in rows:
            standing = self.standing(alert_id)
            if standing is None or self._is_outgoing(target, alert_id):
                continue
            alert = standing.alert
            self.fold(target, alert.severity, alert.title, 1, (alert.first_at_ms, alert.last_at_ms))
            self._settle_one(target, cover(Tiding(tiding), standing), Manner.IN_DIGEST, now_ms)

    # Turns --------------------------------------------------------------------------------------

    def waiting(self, target: str, *, now_ms: int) -> tuple[Waiting, list[int], int]:
        """What waits for the target, when it was told things in the last minute, and when more is due."""
        due, growth, critical, oldest = self.run(
            "SELECT count(*), coalesce(sum(growth), 0), coalesce(sum(rank = ?), 0), coalesce(min(since), 0)"
            " FROM waiting WHERE target = ? AND due <= ?",
            (Severity.CRITICAL.rank, target, now_ms),
        ).fetchone()
        folded = self.run(
            "SELECT coalesce(sum(count), 0) FROM folded WHERE target = ?", (target,)
        ).fetchone()[0]
        later = self.run(
            "SELECT coalesce(min(due), 0) FROM waiting WHERE target = ? AND due > ?", (target, now_ms)
        ).fetchone()[0]
        sent = self.run(
            # What is later than now was sent before the clock was set back.
            "SELECT at FROM pace WHERE target = ? AND at > ? AND at <= ? ORDER BY at",
            (target, now_ms - MINUTE_MS, now_ms),
        ).fetchall()
        return Waiting(due, growth, folded, critical, oldest), [at for (at,) in sent], later

    def begin_alone(self, target: str, *, most: int, now_ms: int) -> Outgoing | None:
        """Let the worst that are due be told, each alone, at most `most` together; None where none is due."""
        rows = self.run(
            # One of which nothing is known any more takes no turn from the others.
            "SELECT alert, tiding FROM waiting JOIN standing USING (alert) WHERE target = ? AND due <= ?"
            " ORDER BY rank DESC, since, alert LIMIT ?",
            (target, now_ms, most),
        ).fetchall()
        made = []
        for alert_id, tiding in rows:
            standing, told = self.standing(alert_id), self.told(target, alert_id)
            if standing is not None:
                thread = told.thread if told is not None and told.manner is Manner.ALONE else alert_id
                made.append(make_notification(Tiding(tiding), standing, thread=thread, made_at_ms=now_ms))
        return self._begin(target, made)

    def begin_digest(self, target: str, *, now_ms: int) -> Outgoing | None:
        """Let all that a digest may stand for be told as one."""
        rows = self.run(
            "SELECT alert, tiding FROM waiting WHERE target = ? AND due <= ? AND growth ORDER BY alert",
            (target, now_ms),
        ).fetchall()
        due = [
            (Tiding(tiding), standing)
            for alert_id, tiding in rows
            if (standing := self.standing(alert_id)) is not None
        ]
        folded = [
            (Severity(severity), title, count, first, last)
            for severity, title, count, first, last in self.run(
                "SELECT severity, title, count, first, last FROM folded WHERE target = ?", (target,)
            )
        ]
        if not due and not folded:
            return None
        return self._begin(target, [make_digest(due, folded, made_at_ms=now_ms)])

    def _begin(self, target: str, made: list[Notification]) -> Outgoing | None:
        if not made:
            return None
        with self.transaction():
            number = 1 + self.progress(target)[2]
            self.run("UPDATE target SET number = ? WHERE name = ?", (number, target))
            self.run("INSERT INTO outgoing VALUES (?, ?, ?)", (target, number, msgspec.json.encode(made)))
            if made[0].digest is not None:
                # They are in the digest now, which is on disk.
                self.run("DELETE FROM folded WHERE target = ?", (target,))
        self._alerts_out.pop(target, None)
        return Outgoing(number, made)

    def settle(
        self,
        target: str,
        outgoing: Outgoing,
        section: ChannelSection,
        *,
        now_ms: int,
        position: str = "",
        refused: Mapping[int, str] | None = None,
    ) -> None:
        """The target has it, but for what it `refused` (place and reason), which is kept aside."""
        refused = refused or {}
        taken = len(outgoing.notifications) - len(refused)
        self._alerts_out[target] = frozenset()
        with self.transaction():
            self.run("DELETE FROM outgoing WHERE target = ?", (target,))
            for place, notification in enumerate(outgoing.notifications):
                self._settle(target, notification, section, now_ms)
                if place in refused:
                    self._set_aside(target, notification, refused[place], now_ms)
                else:
                    self.run("INSERT INTO pace VALUES (?, ?)", (target, now_ms))
            self.run("DELETE FROM pace WHERE target = ? AND at <= ?", (target, now_ms - MINUTE_MS))
            self.run(
                "UPDATE target SET sent = sent + ?, last_sent = CASE WHEN ? THEN ? ELSE last_sent END,"
                " tries = 0, next = 0, trouble = '', trouble_at = 0, position = ? WHERE name = ?",
                (taken, taken, now_ms, position, target),
            )

    def _settle(self, target: str, notification: Notification, section: ChannelSection, now_ms: int) -> None:
        """The alerts in it count as told; what has changed of them since waits anew."""
        covered = list(notification.digest.covered) if notification.digest is not None else []
        manner = Manner.IN_DIGEST if covered else Manner.ALONE
        if notification.standing is not None:
            covered.append(cover(notification.tiding, notification.standing))
        for one in covered:
            told = self._settle_one(target, one, manner, now_ms)
            now = self.standing(one.alert_id)
            if now is not None:
                self._await(target, now, told, section, now_ms)

    def _settle_one(self, target: str, covered: Covered, manner: Manner, now_ms: int) -> Told | None:
        """What the target knows of the alert from now on; None where that is over."""
        alert_id = covered.alert_id
        before = self.told(target, alert_id)
        self.drop_waiting(target, alert_id)
        if covered.tiding is Tiding.WITHDRAWN:
            self.run("DELETE FROM told WHERE (target, alert) = (?, ?)", (target, alert_id))
            return None
        is_known = before is not None and before.manner is Manner.ALONE
        told = Told(
            thread=before.thread if before is not None and is_known else alert_id,
            manner=Manner.ALONE if is_known else manner,
            at_ms=now_ms,
            state=told_state(covered.tiding, covered.state),
            severity=covered.severity,
            mark=covered.mark,
        )
        self.put_told(target, alert_id, told)
        return told

    def fail(self, target: str, trouble: str, *, next_ms: int, now_ms: int) -> None:
        """The target could not be told; it is tried again at `next_ms`."""
        with self.transaction():
            self.run(
                "UPDATE target SET tries = tries + 1, next = ?, trouble_at ="
                " CASE WHEN trouble = '' THEN ? ELSE trouble_at END, trouble = ? WHERE name = ?",
                (next_ms, now_ms, trouble, target),
            )

    def take_back(self, target: str, section: ChannelSection, *, now_ms: int) -> None:
        """Nothing of what was begun has reached the target: decide anew, as its alerts stand now.

        So what was new and is gone before anybody heard of it is told nobody. A digest stays as it is: what
        is only counted in it stands nowhere else.
        """
        outgoing = self.outgoing(target)
        if outgoing is None or any(one.digest is not None for one in outgoing.notifications):
            return
        self._alerts_out[target] = frozenset()
        with self.transaction():
            self.run("DELETE FROM outgoing WHERE target = ?", (target,))
            for alert_id in outgoing.alert_ids:
                now = self.standing(alert_id)
                if now is not None:
                    self._await(target, now, self.told(target, alert_id), section, now_ms)

    def tries(self, target: str) -> tuple[int, int, int]:
        """How often the target was tried in vain, when it is tried again, and what it ever took."""
        row = self.run("SELECT tries, next, sent FROM target WHERE name = ?", (target,)).fetchone()
        return (row[0], row[1], row[2]) if row else (0, 0, 0)

    def try_at_once(self, *, now_ms: int) -> None:
        """Wait for no target any more: a run that begins tries each anew."""
        with self.transaction():
            self.run("UPDATE target SET next = 0, tries = 0")
            self._mind_clock(now_ms)

    def _mind_clock(self, now_ms: int) -> None:
        """Whatever has waited since a time that is still to come waits since the clock was set back."""
        self.run("UPDATE waiting SET due = ?, since = ? WHERE since > ?", (now_ms, now_ms, now_ms))

    def count_from(self, target: str, number: int) -> None:
        """Number what the target is told beyond what it has, of which another file may have told it."""
        with self.transaction():
            self.run("UPDATE target SET number = ? WHERE name = ? AND number < ?", (number, target, number))

    def progress(self, target: str) -> tuple[int, str, int]:
        """The number of what was told last, its position, and the highest number ever given."""
        number, position = self.run(
            "SELECT number, position FROM target WHERE name = ?", (target,)
        ).fetchone()
        return number - int(self.outgoing(target) is not None), position, number

    # Aside --------------------------------------------------------------------------------------

    def _set_aside(self, target: str, notification: Notification, reason: str, now_ms: int) -> None:
        self.run(
            "INSERT INTO aside (target, at, reason, body) VALUES (?, ?, ?, ?)",
            (target, now_ms, reason, msgspec.json.encode(notification)),
        )
        self.run(
            "DELETE FROM aside WHERE target = ? AND number NOT IN"
            " (SELECT number FROM aside WHERE target = ? ORDER BY number DESC LIMIT ?)",
            (target, target, ASIDE_MAX),
        )

    def forget(self, *, now_ms: int) -> None:
        """Let go of what nobody needs any more. Raises: OutputUnavailable."""
        with self.transaction():
            self._mind_clock(now_ms)
            self.run("DELETE FROM told WHERE at < ?", (now_ms - KEPT_MS,))
            self.run(
                "DELETE FROM standing WHERE alert NOT IN (SELECT alert FROM told)"
                " AND alert NOT IN (SELECT alert FROM waiting)"
            )
