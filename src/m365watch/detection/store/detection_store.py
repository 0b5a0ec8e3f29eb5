"""What detection remembers, on disk: matches, alerts, what has to be told, and the last batch.

One SQLite file. Everything that a batch changes is one transaction, its number included, so that a
crash neither loses nor repeats anything. The file can be lost: a search over the lake makes it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.alerts.reopen_policy import Closings
from m365watch.detection.store.alert_history import StateHistory
from m365watch.detection.store.alert_outbox import AlertOutbox
from m365watch.detection.store.alert_store import KeptAlerts
from m365watch.detection.store.detection_database import open_file
from m365watch.detection.store.lake_outbox import LakeDue
from m365watch.detection.store.match_store import KeptMatches, Links
from m365watch.detection.store.string_table import Numbered
from m365watch.storage.database import Database, DatabaseError, is_damage, suspect

ABSENT_MS = 10 * 86_400_000
"""How long the matches of a rule are kept that is not there."""
_KEY = "absent"
_decode = msgspec.json.Decoder(dict[str, int]).decode


class AbsentRules:
    """Since when each of them is gone, in the file of detections."""

    def __init__(self, database: Database) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def forget(self, present: Collection[str], *, now_ms: int) -> int:
        """Let go of the matches of rules that have been away for long; how many went."""
        before = self._read()
        since = {
            rule_id: before.get(rule_id, now_ms)
            for (rule_id,) in self._database.execute("SELECT DISTINCT rule FROM series").fetchall()
            if rule_id not in present
        }
        gone = 0
        for rule_id in [rule_id for rule_id, at_ms in since.items() if now_ms - at_ms >= ABSENT_MS]:
            gone += self._database.execute(
                "DELETE FROM match WHERE series IN (SELECT id FROM series WHERE rule = ?)", (rule_id,)
            ).rowcount
            self._database.execute("DELETE FROM full WHERE rule = ?", (rule_id,))
            del since[rule_id]
        if since != before:
            self._database.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, msgspec.json.encode(since).decode())
            )
        return gone

    def _read(self) -> dict[str, int]:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        return _decode(row[0]) if row else {}


RECORDS, TROUBLE = "records", "finder"
"""Under these names the engine keeps how many records it has judged, and what makes it slow."""
_HOLD = "hold"


class HoldLost(Exception):
    """Somebody else has taken hold of the file."""


class DetectionState:
    """The file. One thread uses it; others read it through connections of their own."""

    def __init__(
        self, path: Path, *, survives_power_cuts: bool = True, hold: int = 0, looks_only: bool = False
    ) -> None:
        """Open or make the file; a crash of the process costs nothing either way. Raises: OutputUnusable.

        With a `hold` that somebody took for this connection, its transactions end where another was taken.
        Who `looks_only` changes nothing in it.
        """
        self.path = path
        self.survives_power_cuts = survives_power_cuts
        self._hold = hold
        self._since_ms: dict[str, int | None] = {}
        self._database = open_file(path, survives_power_cuts=survives_power_cuts, looks_only=looks_only)
        self.lake_due = LakeDue(self._database)
        self.history = StateHistory(self._database)
        self.closings = Closings(self._database)
        self.absent = AbsentRules(self._database)
        self._numbered = Numbered(self._database)
        self.matches = KeptMatches(self._database, self._numbered)
        self.outbox = AlertOutbox(self._database)
        self.alerts = KeptAlerts(
            self._database,
            lake_due=self.lake_due,
            history=self.history,
            closings=self.closings,
            outbox=self.outbox,
        )
        self.links = Links(self._database, self.matches)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing.

        Raises: OutputUnavailable: nothing of it counts; try again. HoldLost: nor does it, for good.
        """
        try:
            with self._database.transaction():
                if self._hold and self.read(_HOLD) != str(self._hold):
                    raise HoldLost  # noqa: TRY301 - rolled back like all else
                self._numbered.begin()
                yield
        except BaseException as error:
            self.doubt()
            if not isinstance(error, DatabaseError):
                raise
            told = f"the file of detections cannot be written: {self._told(error)}"
            raise OutputUnavailable(told, where=str(self.path)) from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is read within the block need not belong together. Raises: OutputUnavailable."""
        try:
            yield
        except DatabaseError as error:
            told = f"the file of detections cannot be read: {self._told(error)}"
            raise OutputUnavailable(told, where=str(self.path)) from None

    def _told(self, error: DatabaseError) -> str:
        """What SQLite says, and what to do where the file is damaged."""
        if not is_damage(error):
            return str(error)
        suspect(self.path)
        return f"{error}; start m365watch again: it sets the file aside and makes it anew from the lake"

    def doubt(self) -> None:
        """What is remembered of the file may be out of date: somebody else has written, or nothing was."""
        self._since_ms.clear()
        self.matches.doubt()

    @property
    def last_batch(self) -> int:
        """The number of the last batch that is durable here; 0 for none."""
        return int(self.read("batch") or 0)

    def count_from(self, number: int) -> None:
        """Take every batch beyond `number` as not seen yet, whatever was seen before: records count once.

        Raises: OutputUnavailable.
        """
        with self.transaction():
            self.write("batch", str(number))

    def read(self, key: str) -> str:
        """A value that was written under `key`; empty where there is none."""
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def write(self, key: str, value: str) -> None:
        """Keep a value under `key`."""
        self._database.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def take_hold(self) -> int:
        """Let nobody write on who holds the file till now; a number for whoever does from now on."""
        with self.transaction():
            hold = int(self.read(_HOLD) or 0) + 1
            self.write(_HOLD, str(hold))
        return hold

    def since_ms(self, tenant: str) -> int | None:
        """The earliest time that the tenant was watched at."""
        if tenant not in self._since_ms:
            row = self._database.execute("SELECT since FROM tenant WHERE id = ?", (tenant,)).fetchone()
            self._since_ms[tenant] = None if row is None else int(row[0])
        return self._since_ms[tenant]

    def watch_since(self, tenant: str, since_ms: int) -> None:
        """Keep the tenant's earliest time."""
        self._since_ms.pop(tenant, None)
        self._database.execute(
            "INSERT INTO tenant VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET since = min(since, excluded.since)",
            (tenant, since_ms),
        )

    def count(self) -> dict[str, int]:
        """How much is kept, by table."""
        row = self._database.execute(
            "SELECT (SELECT count(*) FROM match), (SELECT count(*) FROM alert)"
        ).fetchone()
        return dict(zip(("matches", "alerts"), row, strict=True))
