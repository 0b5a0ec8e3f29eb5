"""Holds what the ledger says against what the outputs have and what the world has served.

It reads the ledger's tables by itself and knows the truth from the world alone: nothing of the collector's
own reckoning is trusted.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from m365watch.common.timestamps import us_of
from m365watch_testing.clock import START
from m365watch_testing.simulation.content import SERVED, Content, Key, occurrences
from m365watch_testing.simulation.stores import Store
from m365watch_testing.simulation.world import BlobName, World

_WAITING, _DELIVERED, _QUARANTINED, _LOST, _QUEUED, _LEFT_OUT = range(6)
_FINAL = {_DELIVERED, _QUARANTINED, _LOST}
PROMPT = timedelta(seconds=10)
"""Content that is listed this soon is no late content."""
EDGE = timedelta(hours=2)
"""What is younger than the 7 days by this much is surely within reach."""
_RELISTING_TAKES = timedelta(hours=3)
_CLOCKS_OFF = timedelta(hours=25)
"""How far ahead a clock is believed when something is forgotten, and a little more."""
_DOUBTED_CUTS = 2
_DOUBTED_FAILURES = 9
_LAG_S = 120.0
NO_BLOBS = "from the queue of an earlier ledger, %"
"""Rows of such names are no blobs: they stand for what a queue holds that another ledger has filled."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BlobRow:
    """What the ledger says of one blob."""

    key: int
    name: BlobName
    state: int
    missing: frozenset[str] | None
    """The outputs that lack it; None: all of them, as nobody has it."""
    finished_s: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger's tables say."""

    blobs: list[BlobRow]
    quarantined: set[tuple[int, str, bytes]]
    """Blob, output ("" for none) and body of everything that is kept."""
    last_batches: dict[str, int]
    gaps: list[tuple[str, str, int, int]]
    """Tenant, content type and seconds of what is counted as never listed."""
    covered_from: dict[tuple[str, str], int]
    """The second from which on each feed was listed."""
    counted: dict[tuple[str, str], tuple[int, int, int]]
    """Each feed's own count of blobs delivered, quarantined and lost."""
    sound: bool = True
    """Whether SQLite finds the file whole."""


def read_account(path: Path) -> Account:
    """The ledger's account, read from its file."""
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute(
            "SELECT key, tenant_id, content_type, content_id, created_us, state, missing, finished_s"
            " FROM blob JOIN feed ON feed.id = blob.feed WHERE content_id NOT LIKE ? ORDER BY key",
            (NO_BLOBS,),
        ).fetchall()
        return Account(
            [
                BlobRow(
                    key,
                    (tenant, kind, content_id, created_us),
                    state,
                    None if missing is None else frozenset(json.loads(missing)),
                    finished_s,
                )
                for key, tenant, kind, content_id, created_us, state, missing, finished_s in rows
            ],
            {tuple(row) for row in base.execute("SELECT blob, output, body FROM quarantine")},
            dict(base.execute("SELECT name, last_batch FROM output")),
            list(
                base.execute(
                    "SELECT tenant_id, content_type, start_s, end_s FROM gap JOIN feed ON feed.id = gap.feed"
                )
            ),
            {
                (tenant, kind): start_s
                for tenant, kind, start_s in base.execute(
                    "SELECT tenant_id, content_type, min(start_s) FROM coverage"
                    " JOIN feed ON feed.id = coverage.feed GROUP BY feed.id"
                )
            },
            {
                (tenant, kind): (delivered, quarantined, lost)
                for tenant, kind, delivered, quarantined, lost in base.execute(
                    "SELECT tenant_id, content_type, blobs_delivered, blobs_quarantined, blobs_lost FROM feed"
                )
            },
            base.execute("PRAGMA quick_check").fetchone()[0] == "ok",
        )


class Judge:
    """Accuses whatever does not fit together."""

    def __init__(self, world: World, stores: dict[str, Store]) -> None:
        """`stores` are the outputs' sides of the matter."""
        self._world = world
        self._stores = stores
        self._contents = {name_of(content): content for content in world.contents}
        self._keys: dict[bytes, Key | None] = {
            element.body: element.key for content in world.contents for element in content.records
        }
        self._tenants: dict[bytes, set[str]] = {}
        for content in world.contents:
            for element in content.records:
                self._tenants.setdefault(element.body, set()).add(content.feed.tenant_id)
        self._occurrences = occurrences(world.contents)
        self.ended: dict[BlobName, int] = {}
        """Every blob that was ever seen in a final state, with that, by the present ledger."""
        self._rests: set[BlobName] = set()
        """Every blob that has grown was known once more under these names, by any ledger."""
        self._had: dict[str, set[Key | bytes]] = {name: set() for name in stores}
        """What each output had, and a ledger had a receipt for."""
        self._carriers: dict[Key, list[datetime]] = {}
        for content in world.contents:
            for key in {element.key for element in content.records if element.key is not None}:
                self._carriers.setdefault(key, []).append(content.created_at)

    def judge(self, account: Account) -> None:
        """What has to hold at every moment, and so after every crash."""
        if not account.sound:
            self._world.accuse("the ledger's file is damaged")
        served = self._occurrences + self._served_again(account)
        for name, store in self._stores.items():
            self._judge_copies(name, store, account.last_batches.get(name, 0), served)
        refused = self._refused(account)
        found = {name: self._found(name, account) | refused[name] for name in self._stores}
        self._judge_kept(account)
        for row in account.blobs:
            content = self._contents.get(served_name(row.name))
            if content is None or not content.shown:
                self._world.accuse(f"the ledger knows a blob that was never listed: {row.name}")
                continue
            self._judge_state(row, content)
            for output in self._holders(row):
                self._judge_delivered(row, content, output, found[output], account)
        self._judge_counts(account)

    def judge_end(self, account: Account, *, calm_since: datetime, now: datetime) -> None:
        """What has to hold once every fault is over and there was time enough to catch up."""
        unknown = self._contents.keys() - {row.name for row in account.blobs} - self.ended.keys()
        for name in sorted(unknown):
            self._judge_unknown(name, self._contents[name], account, calm_since=calm_since, now=now)
        self._judge_gaps(account, now=now)
        for row in account.blobs:
            content = self._contents.get(served_name(row.name))
            if content is None:
                continue
            if row.state not in _FINAL:
                self._world.accuse(f"{_shown(content)} waits for ever, in state {row.state}")
            else:
                self._judge_final(row, content, account)

    def judge_lag(self, account: Account, *, ill: tuple[str, str], until: datetime) -> None:
        """One feed's poison delays no other: whatever is listed is delivered by the next poll."""
        most_s = self._world.plan.period_s + _LAG_S
        rows = {row.name: row for row in account.blobs}
        for name, content in self._contents.items():
            due_at = content.listed_at + timedelta(seconds=most_s)
            if name[:2] == ill or due_at >= until or content.created_at < until - SERVED + EDGE:
                continue
            row = rows.get(name)
            begun_s = max(due_at.timestamp(), START.timestamp() + most_s)
            if begun_s >= until.timestamp():
                continue
            if row is None or row.finished_s is None or row.finished_s > begun_s:
                self._world.accuse(f"{_shown(content)} was delayed by another feed's poison")

    # What outputs have.

    def _served_again(self, account: Account) -> Counter[bytes]:
        """The records without Id of blobs that have grown: nobody can tell which of them are new."""
        self._rests |= {row.name for row in account.blobs if row.name != served_name(row.name)}
        known = (self._contents.get(served_name(name)) for name in sorted(self._rests))
        return occurrences([content for content in known if content is not None])

    def _judge_copies(self, name: str, store: Store, last_batch: int, served: Counter[bytes]) -> None:
        """Exactly once where it can be taken back or told, at most as often as excused on a wire.

        Records without Id as often as they were `served`.
        """
        keys: Counter[Key] = Counter()
        allowed: Counter[Key] = Counter()
        for body, count in store.records(last_batch if name == "files" else None).items():
            if body not in self._keys:
                self._world.accuse(f"{name} has a record that was never served: {body[:80]!r}")
                continue
            if all(name not in self._world.outputs_of(tenant) for tenant in self._tenants[body]):
                self._world.accuse(f"{name} has a record of a tenant that does not go there: {body[:80]!r}")
            key = self._keys[body]
            if key is not None:
                keys[key] += count
                allowed[key] += store.allowed[body]
            elif count > served[body] * (1 + store.allowed[body]):
                self._world.accuse(f"{name} has a record without Id {count} times: {body[:80]!r}")
        for key, count in keys.items():
            most = 1 + allowed[key]
            if count > most and count > (most := most + self._forgotten_copies(key)):
                self._world.accuse(f"{name} has a record {count} times, {most} is allowed: {key}")

    @property
    def _horizon_at(self) -> datetime:
        """What was created later than this is forgotten by nobody."""
        ahead = (
            _CLOCKS_OFF
            if any(life.skew_s > 0 or life.leap_s for life in self._world.plan.lives)
            else timedelta(0)
        )
        return self._world.now() + ahead - self._world.plan.bounds.horizon

    def _forgotten_copies(self, key: Key) -> int:
        """How many of the blobs with the record may be forgotten: what comes after one of them is new."""
        return sum(created_at < self._horizon_at for created_at in self._carriers[key])

    def _found(self, name: str, account: Account) -> set[Key | bytes]:
        """The records that an output has: by identity, or by their bytes where they have none."""
        last_batch = account.last_batches.get(name, 0) if name == "files" else None
        return {self._keys.get(body) or body for body in self._stores[name].records(last_batch)}

    def _refused(self, account: Account) -> dict[str, set[Key | bytes]]:
        """The records that are in quarantine by each output's name."""
        refused: dict[str, set[Key | bytes]] = {name: set() for name in self._stores}
        for _, output, body in account.quarantined:
            if output in refused:
                refused[output].add(self._keys.get(body) or body)
        return refused

    def _judge_kept(self, account: Account) -> None:
        """What an output had stays there, whatever becomes of the ledger."""
        for name, store in self._stores.items():
            present = {self._keys.get(body) or body for body in store.records()}
            if lacking := self._had[name] - present:
                self._world.accuse(f"{name} has lost {len(lacking)} records that it had")
            if name in account.last_batches:
                self._had[name] |= self._found(name, account)

    # What the ledger says.

    def _holders(self, row: BlobRow) -> frozenset[str]:
        """The outputs that have the blob, by the ledger's word."""
        everybody = self._world.outputs_of(row.name[0])
        if row.state == _DELIVERED:
            return everybody
        if row.state in {_QUARANTINED, _LOST} or row.missing is None:
            return frozenset()
        return everybody - row.missing

    def _judge_state(self, row: BlobRow, content: Content) -> None:
        """Exactly one state, and none that the world knows to be wrong."""
        if (row.finished_s is not None) != (row.state in _FINAL):
            self._world.accuse(f"{_shown(content)} is finished and not: state {row.state}")
        if row.state == _LOST and not content.denied:
            self._world.accuse(f"{_shown(content)} counts as lost and is served")
        if row.state == _QUARANTINED and not content.is_quarantined and not _is_doubtful(content):
            self._world.accuse(f"{_shown(content)} is in quarantine as a whole and has records")
        if row.state == _DELIVERED and content.is_quarantined:
            self._world.accuse(f"{_shown(content)} has no record and counts as delivered")

    def _judge_delivered(
        self, row: BlobRow, content: Content, output: str, found: set[Key | bytes], account: Account
    ) -> None:
        """Nothing is acknowledged that the output lacks."""
        lacking = [one for one in content.records if (one.key or one.body) not in found]
        if not lacking or (_is_doubtful(content) and any(kept[0] == row.key for kept in account.quarantined)):
            return
        self._world.accuse(
            f"{_shown(content)} counts as delivered, and {output} lacks {len(lacking)} of its records"
        )

    def _judge_counts(self, account: Account) -> None:
        """The sums that `status` shows are those of the blobs, also of those that are forgotten by now."""
        counted = {feed: Counter[int]() for feed in account.counted}
        known = {row.name: row.state for row in account.blobs}
        horizon_us = us_of(self._horizon_at)
        for name, state in (self.ended | self._world.forgotten).items() - known.items():
            if known.setdefault(name, state) != state or name[3] >= horizon_us:
                self._world.accuse(f"{name[1]} blob {name[2]} had ended and is forgotten or goes on")
        for name, state in known.items():
            counted[name[:2]][state] += 1
        self.ended = {name: state for name, state in known.items() if state in _FINAL}
        for feed, (delivered, quarantined, lost) in account.counted.items():
            states = counted[feed]
            if (delivered, quarantined, lost) != tuple(states[one] for one in sorted(_FINAL)):
                self._world.accuse(f"{feed[1]}: its counts are not those of its blobs: {dict(states)}")

    def ended_by(self, account: Account) -> dict[BlobName, int]:
        """What the ledger of `account` knows to have ended, or knew before it forgot it."""
        present = {row.name: row.state for row in account.blobs}
        known = self.ended | self._world.forgotten | present
        return {name: state for name, state in known.items() if state in _FINAL}

    # The end.

    def _judge_gaps(self, account: Account, *, now: datetime) -> None:
        """Nothing counts as never listed and lost that can still be listed."""
        reachable_s = (now - SERVED + EDGE).timestamp()
        for _, kind, start_s, end_s in account.gaps:
            if end_s > reachable_s:
                self._world.accuse(f"{kind}: seconds {start_s} to {end_s} count as lost and can be listed")

    def _judge_unknown(
        self, name: BlobName, content: Content, account: Account, *, calm_since: datetime, now: datetime
    ) -> None:
        """Served and missing: only what nobody could list may be unknown, and is counted as a gap."""
        if content.listed_at >= calm_since and content.listed_at > now - PROMPT:
            return
        is_reachable = content.created_at >= calm_since - SERVED + EDGE and content.listed_at <= now - PROMPT
        is_reachable &= content.created_at >= self._last_look(content, now) - SERVED + EDGE
        is_prompt = content.listed_at - content.created_at <= PROMPT
        second = name[3] // 1_000_000
        is_counted = any(
            gap[:2] == name[:2] and gap[2] <= second < gap[3] for gap in account.gaps
        ) or second < account.covered_from.get(name[:2], second)
        if is_reachable or (is_prompt and not is_counted and not self._was_listed_too_early(content)):
            self._world.accuse(f"{_shown(content)} was served and is missing")

    def _was_listed_too_early(self, content: Content) -> bool:
        """Whether a listing of its instant was asked for before it was there, and none after.

        By a few seconds, or by hours where a clock was ahead: nobody can know of it.
        """
        begun_at = self._world.ledger_begun_at
        is_shown = content.shown_at is not None and (begun_at is None or content.shown_at >= begun_at)
        return not is_shown and any(
            feed == content.feed and start <= content.created_at < end and asked_at < content.listed_at
            for feed, asked_at, start, end in self._world.listings
        )

    def _last_look(self, content: Content, now: datetime) -> datetime:
        """When, at the latest, a listing of the whole week had to show the content.

        That is a day after the last one, or once the collector is started again after that; and later by as
        much as a clock was ahead when the last one was made.
        """
        ahead_s = max([0.0, *(life.skew_s for life in self._world.plan.lives)])
        since = max(content.listed_at, self._world.ledger_begun_at or content.listed_at)
        due_at = since + timedelta(hours=24, seconds=ahead_s)
        begun_at = min((at for at in self._world.begun_at if at >= due_at), default=now)
        return min(now, max(due_at + _RELISTING_TAKES, begun_at))

    def _judge_final(self, row: BlobRow, content: Content, account: Account) -> None:
        if row.state == _LOST or _is_doubtful(content):
            return
        expected = _QUARANTINED if content.is_quarantined else _DELIVERED
        if row.state != expected:
            self._world.accuse(f"{_shown(content)} ended in state {row.state} instead of {expected}")
        kept = {
            body.removeprefix(_BYTE_ORDER_MARK)
            for blob, output, body in account.quarantined
            if blob == row.key and not output
        }
        for body in _to_be_kept(content):
            if body not in kept:
                self._world.accuse(f"{_shown(content)}: what is no record is not in quarantine: {body!r}")


def served_name(name: BlobName) -> BlobName:
    """The blob's name in listings; the ledger has the rest of a grown one a microsecond behind it."""
    return (*name[:3], name[3] // 1_000 * 1_000)


def name_of(content: Content) -> BlobName:
    """The content as the ledger names it."""
    created_us = us_of(content.created_at)
    return (content.feed.tenant_id, str(content.feed.content_type), content.content_id, created_us)


def _is_doubtful(content: Content) -> bool:
    """Whether it was served cut short so often that it may be taken as it is, by name."""
    return content.cuts_served >= _DOUBTED_CUTS and content.failures_served >= _DOUBTED_FAILURES


def _to_be_kept(content: Content) -> list[bytes]:
    """What of the blob belongs into quarantine."""
    if content.garbage is not None:
        return [b"42" if content.garbage == b"[42]" else content.garbage]
    return [element.body for element in content.elements if not element.is_record]


def _shown(content: Content) -> str:
    return f"{content.feed.content_type} blob {content.content_id}"
