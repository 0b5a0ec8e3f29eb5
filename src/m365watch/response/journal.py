"""Who did what about an alert, and what came of it: a table that is only ever added to.

A deed is written down before it is done, with what takes it back, so that a crash in between leaves
no change that nobody knows how to undo.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec

from m365watch.common.errors import JournalUnreadable, JournalUnwritable
from m365watch.response.steps.step import GraphCall, Method
from m365watch.storage.database import DatabaseError, Schema, open_database, read_rows, reason_of

FILE_NAME = "responses.sqlite"
Outcome = Literal["begun", "done", "failed", "already so", "unclear", "undoing", "undone", "found", "let go"]
"""unclear: Graph's answer never came, so that it may have been done; undoing: so that it may have been taken
back; found: it was so already, and is to stay so; let go: it need not any more; already so: what a person was
told of a deed, or, where there is no label, of a step as a whole."""
ALL_OF_LIST = " *"
"""How what is changed ends where it is all that a list has; of one thing its name stands there."""
NOT_DONE = "it cannot be written down, and so it was not done"
"""What there is to say where a line cannot be written that comes before a deed."""
_DONE: frozenset[Outcome] = frozenset({"already so", "done"})
NEVER_ANSWERED: frozenset[Outcome] = frozenset({"begun", "unclear"})
_MAY_STAND = frozenset({"begun", "done", "unclear", "undoing"})
_RESPONSES = Schema(
    1,
    """
CREATE TABLE response (
    number INTEGER PRIMARY KEY, alert TEXT NOT NULL, tenant TEXT NOT NULL, line BLOB NOT NULL
) STRICT;
CREATE INDEX response_alert ON response (alert);
CREATE INDEX response_tenant ON response (tenant);
""",
    ("journal_mode = WAL",),
)


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the journal."""

    deed: str
    """The deed's own id; lines with the same one tell of the same deed."""
    at: datetime
    by: str
    alert: str
    tenant: str
    outcome: Outcome
    step: str
    title: str = ""
    """The step as people read it, with the account that it is about."""
    label: str = ""
    method: Method | Literal[""] = ""
    path: str = ""
    about: str = ""
    """What was changed, in the same words for whichever name an alert has for it; empty in older lines."""
    undo: GraphCall | None = None
    doubt: str = ""
    """What a person has to know before it is taken back; empty where there is nothing."""
    error: str = ""
    locks_out: str = ""
    """The object id of an account that may administer the tenant no more after it."""
    by_group: str = ""
    """That of the group that it leaves for it."""


@dataclass(frozen=True, slots=True)
class DeedDone:
    """A deed that was done, or may have been, and was not taken back."""

    line: Line
    is_certain: bool
    is_begun: bool = False
    """Whether somebody began to take it back, and nobody knows what came of that."""


class Journal:
    """The file in the state directory; its owner's alone, for it repeats what rules and grants said."""

    def __init__(self, state_directory: Path) -> None:
        """The file is made when the first line is written."""
        self.path = state_directory / FILE_NAME

    def write(self, line: Line, *, otherwise: str = NOT_DONE) -> None:
        """Add the line, durably. Raises: JournalUnwritable: says `otherwise`; the file is as it was."""
        try:
            with closing(open_database(self.path, _RESPONSES)) as file:
                file.execute(
                    "INSERT INTO response (alert, tenant, line) VALUES (?, ?, ?)",
                    (line.alert, line.tenant, msgspec.json.encode(line)),
                )
        except (OSError, DatabaseError) as error:
            raise JournalUnwritable(
                f"{otherwise}: {reason_of(error)}",
                fix=f"make room for {FILE_NAME}, or let this user write it; move a damaged one away",
                where=str(self.path),
            ) from None

    def to_undo(self, *alerts: str) -> list[DeedDone]:
        """What was done for the alert, under any of its ids, and can be taken back, the latest first."""
        begun: dict[str, Line] = {}
        outcomes: dict[str, str] = {}
        for line in self._lines_for(alerts):
            outcomes[line.deed] = line.outcome
            if line.outcome == "begun":
                begun[line.deed] = line
        left = [one for one in begun.values() if one.undo and outcomes[one.deed] in _MAY_STAND]
        return [
            DeedDone(one, is_certain=outcomes[one.deed] == "done", is_begun=outcomes[one.deed] == "undoing")
            for one in reversed(left)
        ]

    def list_deeds(self, *alerts: str) -> list[Line]:
        """What became of each deed for the alert, under any of its ids, by the time of that."""
        lines = self._lines_for(alerts)
        newest = {line.deed: line for line in lines if line.outcome not in {"found", "let go"}}
        return sorted(newest.values(), key=lambda line: line.at)

    def ends_otherwise(self, word: str, title: str, alert: str) -> bool:
        """Whether what is told of the alert's deeds of that step leaves it open whether all of it is so."""
        is_open = False
        for line in self.list_deeds(alert):
            if (line.step, line.title) == (word, title):
                is_whole = line.outcome == "already so" and not line.label
                is_open = not is_whole and (is_open or line.outcome not in {"done", "already so"})
        return is_open

    def list_found(self, *alerts: str) -> list[list[Line]]:
        """What was so already and is to stay so for the alert, under any of its ids, step by step.

        But for the steps of which something that was done for it still stands.
        """
        found = {line.deed: line for line in self._lines_for(alerts) if line.outcome in {"found", "let go"}}
        done = {(one.line.step, one.line.title) for one in self.to_undo(*alerts)}
        by_step: dict[tuple[str, str], list[Line]] = {}
        for line in found.values():
            if line.outcome == "found" and (line.step, line.title) not in done:
                by_step.setdefault((line.step, line.title), []).append(line)
        return [*by_step.values()]

    def keeps_others(self, found: Sequence[Line]) -> bool:
        """Whether something that was done for another alert is not taken back for what was found here."""
        every = [line for line in self._lines_of(found[0].tenant) if line.alert != found[0].alert]
        standing = {line.deed: line.outcome in _MAY_STAND for line in every}
        return any(
            line.outcome == "begun" and line.undo is not None and standing[line.deed] and _is_same(one, line)
            for line in every
            for one in found
        )

    def list_gone(self, *alerts: str) -> list[Line]:
        """What was done for the alert, under any of its ids, and nothing takes back, each once."""
        lines = self._lines_for(alerts)
        done = {line.deed: line.outcome == "done" for line in lines}
        gone = (one for one in lines if one.outcome == "begun" and one.undo is None and done[one.deed])
        return [*{(one.step, one.title, one.label): one for one in gone}.values()]

    def did(
        self, word: str, title: str, tenant: str, *, about: str = "", came: frozenset[Outcome] = _DONE
    ) -> list[Line]:
        """The deeds of that step, for whichever alert of the tenant, of which that is the latest word.

        By its title, or by what it is about, which another alert may spell otherwise.
        """
        begun: dict[str, Line] = {}
        standing: set[str] = set()
        for line in self._lines_of(tenant):
            if line.step != word:
                continue
            if line.outcome == "begun" and (line.title == title or _is_about(line, about)):
                begun[line.deed] = line
            (standing.add if line.outcome in came else standing.discard)(line.deed)
        return [line for deed, line in begun.items() if deed in standing]

    def others_wanting(self, done: Line, *alerts: str) -> list[str]:
        """Other alerts that want what was done for these to stay so, whatever name they have for it."""
        wanting: dict[str, str] = {}
        standing: dict[str, bool] = {}
        for line in self._lines_of(done.tenant):
            if line.alert not in alerts and line.outcome in {"begun", "found"} and _is_same(line, done):
                wanting[line.deed] = line.alert
            if line.deed in wanting:
                standing[line.deed] = line.outcome in _MAY_STAND or line.outcome == "found"
        return list(dict.fromkeys(alert for deed, alert in wanting.items() if standing[deed]))

    def locked_out(self, tenant: str, *, since: datetime) -> frozenset[tuple[str, str]]:
        """Who may administer the tenant no more by what was done since then, and by leaving which group.

        The groups first, empty where it is by none; the accounts in lower case. What may be done counts.
        """
        begun: dict[str, tuple[str, str]] = {}
        standing: set[str] = set()
        for line in self._lines_of(tenant):
            if line.locks_out:
                begun[line.deed] = (line.by_group, line.locks_out.lower())
            is_one = line.at >= since and line.outcome in _MAY_STAND
            (standing.add if is_one else standing.discard)(line.deed)
        return frozenset(one for deed, one in begun.items() if deed in standing)

    def find(self, given: str) -> Line | None:
        """The first line of the only alert whose id begins so: alerts are forgotten, what was done is not."""
        found = self._lines(
            "number IN (SELECT min(number) FROM response WHERE substr(alert, 1, ?) = ? GROUP BY alert)",
            (len(given), given),
        )
        return found[0] if len(found) == 1 else None

    def _lines_for(self, alerts: Sequence[str]) -> list[Line]:
        return self._lines(f"alert IN ({', '.join('?' for _ in alerts)})", alerts)

    def _lines_of(self, tenant: str) -> list[Line]:
        return self._lines("tenant = ?", (tenant,))

    def _lines(self, condition: str, given: Sequence[object]) -> list[Line]:
        """The lines that meet the condition, in their order. Raises: JournalUnreadable."""
        try:
            rows = read_rows(
                self.path,
                f"SELECT line FROM response WHERE {condition} ORDER BY number",  # noqa: S608 - our own words
                given,
                schema=_RESPONSES,
            )
            return [msgspec.json.decode(body, type=Line) for (body,) in rows]
        except (OSError, DatabaseError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise JournalUnreadable(
                f"what was done for alerts cannot be read: {reason_of(error)}",
                fix=f"give this user the right to read {FILE_NAME}; move a damaged one away",
                where=str(self.path),
            ) from None


def named(line: Line) -> str:
    """What a deed was, and to what: the step's own words have the account, and the label the rule or role."""
    if not line.title:
        return f"{line.step} {line.label}".strip()
    return f"{line.title}: {line.label}" if line.label and line.label not in line.title else line.title


def _is_about(line: Line, about: str) -> bool:
    """Whether that was changed, or is the id of one that went with all of its list."""
    listed, mark, _ = line.about.rpartition(ALL_OF_LIST)
    if mark and about.startswith(f"{listed} "):
        return f"id {unquote(line.path.rpartition('/')[2])}" in about[len(listed) + 1 :].split(", ")
    return "" != line.about == about


def _is_same(line: Line, done: Line) -> bool:
    """Whether both are about one thing, or the first about all of what the other is one of.

    Paths that differ in capitals only are one account's.
    """
    is_one_path = line.path.casefold() == done.path.casefold()
    listed, mark, _ = line.about.rpartition(ALL_OF_LIST)
    is_one_of_all = bool(mark) and done.about.startswith(f"{listed} ")
    return line.tenant == done.tenant and (is_one_path or is_one_of_all or ("" != line.about == done.about))
