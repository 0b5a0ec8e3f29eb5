"""What `check` shows: a line a step and a hint under each that needs one; live on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from m365watch.cli.feeds.why_view import VERDICT_STYLES
from m365watch.cli.terminal.console import stderr_terminal, stdout_console
from m365watch.cli.terminal.formatting import count, quoted
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.registry.checks import Checked, Group, Place, Preflight, Verdict

if TYPE_CHECKING:
    from rich.status import Status

    from m365watch.common.clock import Clock
    from m365watch.health.checks.check_engine import Progress

LOOK_EVERY_S = 0.2
SEEN_LENGTH_MAX = 600
"""Longer ones, which is to say pages of somebody's proxy, are cut; never in JSON."""
_MARKS = {Verdict.OK: "✔", Verdict.NOTE: "!", Verdict.BROKEN: "✘", Verdict.SKIPPED: "-"}
_TITLES = {Place.MACHINE: "this machine", Place.NETWORK: "network", Place.OUTPUTS: "outputs"}
_STEP_COLUMNS = 13
_WORD_COLUMNS = 7
_BODY_COLUMNS_MIN = 30
"""A narrower terminal wraps as it likes."""


class Page:
    """Shows groups as they come, and on a terminal what is under way."""

    def __init__(self, *, shows_groups: bool) -> None:
        """Without `shows_groups` what is under way is all that is shown."""
        self.only_broken = False
        """Whether steps that are not broken are left out."""
        self._console = stdout_console()
        self._shows_groups = shows_groups
        self._has_shown = False
        self._status: Status | None = None

    @property
    def _has_marks(self) -> bool:
        """Whether a terminal shows marks in place of words."""
        return self._console.is_terminal and "utf" in self._console.encoding.lower()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While entered, a terminal shows what is under way."""
        console = self._console if self._console.is_terminal and self._shows_groups else stderr_terminal()
        if console is None:
            yield
            return
        with console.status("looking at this machine") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    async def follow(self, progress: Progress, clock: Clock) -> None:
        """Say again and again what is under way; until it is cancelled."""
        while self._status is not None:
            self._status.update(progress.words)
            await clock.sleep(LOOK_EVERY_S)

    def show_all(self, preflight: Preflight) -> None:
        """Show every group."""
        for group in preflight.groups:
            self.show(group)

    def show(self, group: Group) -> None:
        """Show one group, if there is anything in it to be shown."""
        steps = [step for step in group.steps if not self.only_broken or step.verdict is Verdict.BROKEN]
        if not steps or not self._shows_groups:
            return
        if self._has_shown:
            self._print(Text(""))
        self._has_shown = True
        title = _TITLES.get(group.place, f"tenant {quoted(group.name)}")
        self._print(Text(title, style="bold"))
        steps = _with_skipped_together(steps)
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            self._show_step(step)
            # Steps in a row that one act mends have one hint.
            if step.fix and (following is None or following.fix != step.fix):
                self._print(Text(f"  hint: {quoted(step.fix, length_max=SEEN_LENGTH_MAX)}"))

    def _show_step(self, step: Checked) -> None:
        """A line; on a terminal, where it is longer than that is wide, it goes on below where it began."""
        mark = _MARKS[step.verdict] if self._has_marks else f"{step.verdict:<{_WORD_COLUMNS}}"
        head = Text.assemble((mark, VERDICT_STYLES[step.verdict]), f" {step.check:<{_STEP_COLUMNS}} ")
        about = f"{quoted(step.subject)}: " if _names_subject(step) else ""
        seen = quoted(step.seen, length_max=SEEN_LENGTH_MAX)
        body = Text(f"{about}{seen}", style="dim" if step.verdict is Verdict.SKIPPED else "")
        columns = self._console.width - head.cell_len
        if not self._console.is_terminal or columns < _BODY_COLUMNS_MIN:
            self._print(head + body)
            return
        for part in body.wrap(self._console, columns):
            part.rstrip()
            self._print(head + part)
            head = Text(" " * head.cell_len)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


def _with_skipped_together(steps: Sequence[Checked]) -> list[Checked]:
    """The same steps, those in a row as one that were skipped because of one and the same step."""
    shown: list[Checked] = []
    for reason, group in groupby(steps, key=_why_skipped):
        row = list(group)
        if reason is None or len(row) == 1:
            shown += row
            continue
        others = "the step" if len(row) == 2 else f"the {len(row) - 1} steps"
        verb = "does" if len(row) == 2 else "do"
        shown.append(replace(row[0], seen=f"{row[0].seen}; so {verb} {others} after it"))
    return shown


def _why_skipped(step: Checked) -> str | None:
    """Which step it waits for; None where that is not all there is to say of it."""
    is_bare = step.verdict is Verdict.SKIPPED and not step.subject
    return step.waits_for if is_bare else None


def _names_subject(step: Checked) -> bool:
    """Whether the subject does not begin what was seen anyway."""
    return bool(step.subject) and not step.seen.startswith(step.subject)


def summary_line(preflight: Preflight) -> str:
    """The sums, and how tenants stand where there are several."""
    counts = preflight.counts
    steps = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in Verdict)
    tenants = [group for group in preflight.groups if group.place is Place.TENANT]
    stopped = sum(group.is_broken for group in tenants)
    untried = sum(group.is_untried for group in tenants)
    rest = f", {untried:,} not tried" if untried else ""
    several = (
        f"; {count(len(tenants), 'tenant')}, {stopped:,} of them broken{rest}" if len(tenants) > 1 else ""
    )
    end = "something is broken" if preflight.is_broken else "nothing is broken"
    notes = " (notes keep no run from working)" if counts[Verdict.NOTE] and not preflight.is_broken else ""
    return f"{end}{notes}: {steps}{several}"


def check_document(
    preflight: Preflight, *, path: Path | None, exit_code: int, now: datetime
) -> dict[str, Any]:
    """What `check --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "configuration": None if path is None else str(path),
        "broken": preflight.is_broken,
        "exit_code": exit_code,
        "counts": {str(verdict): number for verdict, number in preflight.counts.items()},
        "groups": [
            {
                "place": str(group.place),
                "tenant": group.name or None,
                "steps": [step_document(step) for step in group.steps],
            }
            for group in preflight.groups
        ],
    }


def step_document(step: Checked) -> dict[str, Any]:
    """One step as JSON has it."""
    return {
        "step": str(step.check),
        "subject": step.subject or None,
        "verdict": str(step.verdict),
        "seen": step.seen,
        "fix": step.fix,
        "waits_for": None if step.waits_for is None else str(step.waits_for),
    }
