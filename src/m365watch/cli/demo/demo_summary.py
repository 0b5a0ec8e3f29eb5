"""The demo's end: what arrived, whether everything did, and what to try next."""

from __future__ import annotations

import ipaddress
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from m365watch.cli.demo.attack_results import JudgedAttack, attacks_document, attacks_view
from m365watch.cli.demo.demo_command import CONFIG_NAME
from m365watch.cli.demo.sample_queries import Finding, finding_view, findings_document
from m365watch.cli.terminal.formatting import Totals, completeness_line, count, totals_of, waiting_line
from m365watch.cli.terminal.json_output import outcome_document
from m365watch.common.text import plain
from m365watch.lake.views import UNION

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

    from m365watch.cli.demo.demo_run import Played
    from m365watch.common.errors import NeedsOperator


def shortcomings(played: Played) -> list[str]:
    """Why the account is not perfect, a line each; empty when everything arrived."""
    sums = totals_of(played.outcome.progress.feeds)
    lines = [plain(problem) for problem in played.outcome.problems]
    lines += [waiting_line(blob) for blob in played.outcome.waiting]
    lines += _count_shortcomings(sums)
    for row in played.outcome.progress.feeds:
        if row.needs_operator:
            lines.append(plain(f"{row.feed}: {row.last_error}; {row.fix}"))
    return lines


def _count_shortcomings(sums: Totals) -> list[str]:
    lines = []
    if not sums.records:
        lines.append("no record arrived")
    if sums.lost:
        lines.append(f"{count(sums.lost, 'blob')} expired before they could be fetched")
    if sums.quarantined or sums.records_quarantined:
        blobs, records = count(sums.quarantined, "blob"), count(sums.records_quarantined, "record")
        lines.append(f"{blobs} and {records} were quarantined")
    return lines


NO_ATTACKS = "No attack lies wholly within these days, so that none is named: 7 days and more have some."


def account_document(
    played: Played,
    findings: Sequence[Finding],
    judged: Sequence[JudgedAttack] = (),
    *,
    exit_code: int,
    now: datetime,
) -> dict[str, Any]:
    """What `demo --json` prints."""
    return outcome_document(played.outcome, exit_code=exit_code, now=now) | {
        "took_s": round(played.took_s, 2),
        "live_records": played.live_records,
        "completeness": completeness_line(played.outcome.progress),
        "shortcomings": shortcomings(played),
        "lake": str(played.lake_directory),
        "findings": findings_document(findings),
        "attacks": attacks_document(judged),
    }


def print_account(
    console: Console, played: Played, findings: Sequence[Finding], judged: Sequence[JudgedAttack] = ()
) -> None:
    """The tables, the attacks, then the completeness line."""
    console.print(Text(f"times are UTC; in Devo a table is called {UNION}.<table>", style="dim"))
    console.print()
    for finding in findings:
        console.print(finding_view(finding), "")
    if judged:
        console.print(attacks_view(judged), "")
    elif not played.attacks:
        console.print(Text(NO_ATTACKS, style="dim"), "")
    faults = shortcomings(played)
    style = "bold red" if faults else "bold green"
    line = Text(completeness_line(played.outcome.progress), style=style)
    console.print(line, soft_wrap=not console.is_terminal)
    for fault in faults:
        console.print(Text(f"why: {fault}", style="red"))
    live = f", {played.live_records:,} of them live" if played.live_records else ""
    where = f"the lake is {_short(played.lake_directory)}"
    console.print(Text(f"collected in {played.took_s:.1f} s{live}; {where}", style="dim"))


def print_next_commands(console: Console, findings: Sequence[Finding], *, folder: Path) -> None:
    """Three commands that work when they are pasted into a shell here."""
    command = invocation(sys.argv)
    config = shlex.quote(_short(folder / CONFIG_NAME))
    question = shlex.quote(_short(folder / "inbox-rules.sql"))
    says, sql = _follow_up(findings)
    again = "Ask one of the questions above again, or change it first"
    steps = (
        (says, f'{command} query --config {config} "{sql}"'),
        (again, f"{command} query --config {config} - < {question}"),
        ("See how every feed stands", f"{command} status --config {config}"),
    )
    for says, line in steps:
        console.print(Text(f"\n{says}:", style="dim"))
        # Wrapped by the terminal, not by us: a line break of ours would be pasted with the command.
        console.print(Text(f"  {line}", style="cyan"), soft_wrap=True)


def print_no_board(console: Console, why: NeedsOperator) -> None:
    """Last, in the board's place: that there is one, and how to have it."""
    console.print(Text(f"\nNo board: {why.what}", style="yellow"))
    console.print(Text(f"hint: {why.fix}", style="cyan"), soft_wrap=True)


def _follow_up(findings: Sequence[Finding]) -> tuple[str, str]:
    """A question that leads on from the failed sign-ins, as a sentence and as SQL."""
    select = "select operation, count(*) as records, min(created_at) as first from audit"
    order = "group by all order by records desc limit 15"
    for finding in findings:
        for row in finding.answer.rows:
            answers = dict(zip(finding.answer.columns, row, strict=True))
            if "failed" in answers and (address := _address(answers.get("address"))):
                return f"Ask what else {address} did", f"{select} where client_ip = '{address}' {order}"
    return "Ask what is done most", f"{select} {order}"


def _address(value: object) -> str | None:
    """`value` as an address, so that nothing else from a record gets into a command to paste."""
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        return None


def invocation(arguments: Sequence[str]) -> str:
    """How a shell calls this very program: by its name if PATH leads to it, else by its path."""
    script = Path(arguments[0])
    found = shutil.which("m365watch")
    if found is not None and Path(found).resolve() == script.resolve():
        return "m365watch"
    if script.name == "m365watch" and os.access(script, os.X_OK):
        return shlex.quote(_short(script.absolute()))
    return f"{shlex.quote(sys.executable)} -m m365watch.cli.main"


def _short(path: Path) -> str:
    """`path` from the present folder where it lies below it, else in full."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
