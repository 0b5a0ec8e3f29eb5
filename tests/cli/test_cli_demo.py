from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from rich.console import Console

from m365watch.cli.demo.attack_results import JudgedAttack, attacks_document, attacks_view, judge_attacks
from m365watch.cli.demo.demo_command import MARKER, demo_folder, write_private
from m365watch.cli.demo.demo_run import (
    Course,
    Played,
    PlayPlan,
    demo_configuration,
    is_complete,
    live_records,
    while_it_runs,
)
from m365watch.cli.demo.demo_summary import invocation, print_account, print_next_commands, shortcomings
from m365watch.cli.demo.sample_queries import QUESTIONS, Finding, findings_document
from m365watch.cli.demo.tenant_process import (
    DELAY,
    SPEED,
    QuickClock,
    StagedAttack,
    TenantPlan,
    tenant_running,
)
from m365watch.cli.terminal.live_progress import Nothing
from m365watch.common.clock import SystemClock
from m365watch.common.errors import LedgerHeld, NeedsOperator
from m365watch.common.model import ContentType
from m365watch.detection.alerts.alert import Alert, make_alert_id
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule_library import load_packs
from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer
from m365watch.runtime.config_reload import Reload
from run_figures import NOW, WAITING, FakeCollector, feed_progress, outcome, run_progress

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_ROW = re.compile(
    r"^\d\d-\d\d \d\d:\d\d  (?P<title>.+?) {2,}\d+ (?:s|min|h)\n"
    r"    [0-9a-f]{8} (?P<alert>.+?)(?:, and [\d,]+ more)?$",
    re.MULTILINE,
)
"""A line of README's table of attacks; when, how fast, and how many more differ from day to day."""
FAILED = Finding(
    QUESTIONS[1],
    QueryAnswer(
        columns=("user", "address", "failed", "ok", "last"),
        types=("VARCHAR", "VARCHAR", "BIGINT", "BIGINT", "TIMESTAMP WITH TIME ZONE"),
        rows=[("a\x1b[31m@contoso.example", "203.0.113.7", 13, 0, NOW), ("b" * 200, None, 1, 2, NOW)],
        truncated=False,
    ),
)
NONE_SHARED = Finding(QUESTIONS[3], QueryAnswer(("time",), ("VARCHAR",), [], truncated=False))


def played(**figures: int) -> Played:
    ending = outcome(progress=run_progress(feed_progress(ContentType.EXCHANGE, **figures)))
    return Played(ending, Path("lake"), live_records=70, took_s=7.7, stopped_by=None)


def plain_console(columns: int) -> Console:
    return Console(width=columns, highlight=False, markup=False, color_system=None)


class MachineClock:
    def __init__(self) -> None:
        self.passed = timedelta(0)

    def now(self) -> datetime:
        return NOW + self.passed

    def monotonic_s(self) -> float:
        return self.passed.total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.passed += timedelta(seconds=seconds)


def test_the_tenants_clock_starts_late_and_runs_up_to_the_present() -> None:
    """Content comes out all the while the demo runs, and never from the future."""
    machine = MachineClock()
    clock = QuickClock(machine)
    seen = []
    for _second in range(60):
        assert clock.now() <= machine.now()
        seen.append(clock.now())
        asyncio.run(clock.sleep(1))

    assert seen[0] == NOW - DELAY
    assert seen[1] - seen[0] == timedelta(seconds=SPEED)
    assert seen == sorted(seen)
    assert clock.now() == machine.now()


def test_a_folder_that_holds_anything_else_is_refused(tmp_path: Path) -> None:
    """The demo empties its folder, so it has to be the demo's."""
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")

    with pytest.raises(NeedsOperator, match="was not made by a demo"), demo_folder(tmp_path):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_of_an_earlier_demo_is_emptied_and_used_again(tmp_path: Path) -> None:
    """The demo works twice in a row."""
    for _time in range(2):
        with demo_folder(tmp_path / "deep" / "demo") as folder:
            assert [path.name for path in folder.iterdir()] == [MARKER]
            (folder / "lake").mkdir()
            (folder / "lake" / "part").touch()
            write_private(folder / "config.json", {"a": 1})
            assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600


def test_two_demos_never_share_a_folder(tmp_path: Path) -> None:
    """The second would empty it under the first."""
    with (
        demo_folder(tmp_path / "demo"),
        pytest.raises(LedgerHeld, match="name another directory"),
        demo_folder(tmp_path / "demo"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """Here: a file stands where a folder should be."""
    (tmp_path / "file").touch()

    with pytest.raises(NeedsOperator, match="cannot be written"), demo_folder(tmp_path / "file" / "demo"):
        pass


def test_a_demo_that_goes_on_says_what_can_be_seen_meanwhile() -> None:
    """With the folder of its configuration; the account comes only at the end."""
    told = while_it_runs(Path("/tmp/a folder/config.json"))

    assert "alerts list --config '/tmp/a folder/config.json'" in told
    assert "until Ctrl-C" in told
    assert " board --" in told
    assert " board --" not in while_it_runs(Path("config.json"), has_board=True)


def test_a_feed_that_is_paused_takes_no_live_record_away() -> None:
    """The account has the others' alone, and none at all where the history never was complete."""
    mail = feed_progress(ContentType.EXCHANGE, records_delivered=50)
    files = feed_progress(ContentType.SHAREPOINT, records_delivered=30)
    later = feed_progress(ContentType.EXCHANGE, records_delivered=57)

    assert live_records([mail, files], [later]) == 7
    assert live_records([mail], [later, files]) == 37
    assert live_records(None, [later]) == 0


def test_the_history_is_complete_when_nothing_is_left_to_fetch() -> None:
    """Listed up to the end is not enough while blobs wait."""
    assert is_complete(run_progress(feed_progress()))
    assert not is_complete(run_progress(feed_progress(blobs_waiting=1)))
    assert not is_complete(run_progress(feed_progress(), caught_up=False))
    assert not is_complete(run_progress())


def test_the_demos_configuration_polls_quickly_into_the_lake() -> None:
    """Everything else is as the tenant gave it."""
    given = {"inputs": {"office365": {"id": "1", "services": {"exchange": {}}}}, "globals": {"name": "x"}}

    assert demo_configuration(given) == {
        "globals": {"name": "x"},
        "inputs": {"office365": {"id": "1", "services": {"exchange": {"request_period_in_seconds": 1}}}},
        "outputs": {"lake": {"type": "lake", "config": {"directory": "lake"}}},
        "detections": {"exceptions_file": "exceptions.yml"},
    }


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"blobs_lost": 2}, "2 blobs expired before they could be fetched"),
        ({"blobs_quarantined": 1}, "1 blob and 0 records were quarantined"),
        ({"records_quarantined": 3}, "0 blobs and 3 records were quarantined"),
        ({"records_delivered": 0}, "no record arrived"),
    ],
)
def test_an_account_that_is_not_perfect_says_why(figures: dict[str, int], reason: str) -> None:
    """And a perfect one has nothing to say."""
    assert shortcomings(played(**figures)) == [reason]
    assert shortcomings(played()) == []


def test_blobs_that_wait_and_problems_are_shortcomings() -> None:
    """Each is named."""
    ending = outcome(3, waiting=(WAITING,), problems=("output lake: disk full; make room",))
    faults = shortcomings(Played(ending, Path("lake"), live_records=0, took_s=1.0, stopped_by=None))

    assert faults[0] == "output lake: disk full; make room"
    assert faults[1].startswith("waiting: ")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_account_fits_the_terminal(columns: int) -> None:
    """Long values are wrapped, control characters of records are not passed on."""
    console = plain_console(columns)
    with console.capture() as capture:
        print_account(console, played(), [FAILED, NONE_SHARED])
    lines = capture.get().splitlines()

    tables = lines[: lines.index(NONE_SHARED.question.title)]
    assert max(map(len, tables)) <= columns
    assert [line for line in lines if "UTC" in line] == [lines[0]]
    assert "\x1b" not in capture.get()
    assert any(line.startswith("a [31m@contoso.example") and "13" in line for line in lines)
    assert "none" in lines
    assert "No attack lies wholly within these days, so that none is named:" in capture.get().replace(
        "\n", " "
    )
    assert lines[-1] == "collected in 7.7 s, 70 of them live; the lake is lake"


def test_the_next_commands_are_pasted_as_they_are(tmp_path: Path) -> None:
    """Quoted for a shell, on one line however narrow the terminal is."""
    console = plain_console(40)
    with console.capture() as capture:
        print_next_commands(console, [FAILED], folder=tmp_path / "my demo")
    lines = [line.strip() for line in capture.get().splitlines() if line.startswith("  ")]

    assert len(lines) == 3
    first, second, third = map(shlex.split, lines)
    config = str(tmp_path / "my demo" / "config.json")
    assert first[-3:-1] == ["--config", config]
    assert "client_ip = '203.0.113.7'" in first[-1]
    assert second[-3:] == ["-", "<", str(tmp_path / "my demo" / "inbox-rules.sql")]
    assert third[-3:] == ["status", "--config", config]


def test_nothing_of_a_record_but_an_address_gets_into_a_command() -> None:
    """A record could hold anything, and this line is made to be pasted into a shell."""
    answer = QueryAnswer(("address", "failed"), ("VARCHAR", "BIGINT"), [("'; $(reboot)", 9)], truncated=False)
    console = plain_console(80)
    with console.capture() as capture:
        print_next_commands(console, [Finding(QUESTIONS[1], answer)], folder=Path("demo"))

    assert "reboot" not in capture.get()


def test_the_program_is_called_as_the_reader_can_call_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name where PATH leads to this very one, by its path where not, through Python else."""
    script = tmp_path / "some bin" / "m365watch"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("PATH", str(tmp_path))
    assert invocation([str(script)]) == "'some bin/m365watch'"
    assert invocation(["main.py"]) == f"{shlex.quote(sys.executable)} -m m365watch.cli.main"
    monkeypatch.setenv("PATH", str(script.parent))
    assert invocation([str(script)]) == "m365watch"


def test_findings_as_json_are_lists_of_objects() -> None:
    """Under the names that the files of questions have."""
    rows = findings_document([FAILED])["failed-sign-ins"]

    assert rows[0]["failed"] == 13
    assert rows[0]["last"] == "2026-11-24T12:00:00Z"
    assert json.dumps(rows)


def test_a_tenant_ends_with_its_demo(tmp_path: Path) -> None:
    """Also when the demo is killed, since that closes the pipe it reads."""
    plan = TenantPlan(seed=1, days=1, records_per_day=100)

    async def start_and_leave() -> dict[str, object]:
        async with tenant_running(plan, output_path=tmp_path / "tenant.txt") as introduction:
            return introduction.configuration

    configuration = asyncio.run(start_and_leave())

    assert set(configuration) >= {"inputs"}
    assert list(tmp_path.iterdir()) == []


def test_the_demo_is_judged_by_no_attack_that_its_history_cuts(tmp_path: Path) -> None:
    """What began on the first of seven days may be cut at the edge: on every fifth day 9 of 12 were found."""
    plan = TenantPlan(seed=1, days=7, records_per_day=100)

    async def introduce() -> list[datetime]:
        async with tenant_running(plan, output_path=tmp_path / "tenant.txt") as introduction:
            return [attack.started_at for attack in introduction.attacks]

    edge = SystemClock().now() - timedelta(days=6) - DELAY
    began = asyncio.run(introduce())

    assert len(began) >= 10
    assert min(began) >= edge


def test_an_attack_is_told_with_its_first_alert() -> None:
    """And how long after its first record it was there; what nothing tells of is not hidden."""
    attacks = [StagedAttack("Spray", NOW, ("a", "b", "c")), StagedAttack("Unseen", NOW, ("z",))]
    rules = load_packs(["core"]).rules
    each = next(rule for rule in rules if rule.extension.detection == "B08")
    joins = next(rule for rule in rules if rule.correlation is not None and rule.alerts)
    alerts = [
        alert_with(each.id, first_s=60, last_s=900, evidence=("b",)),
        alert_with(joins.id, first_s=0, last_s=600, evidence=("a", "b")),
        alert_with(each.id, first_s=1, last_s=1, evidence=("a",), severity=Severity.LOW),
    ]

    spray, unseen = judge_attacks(attacks, alerts, rules)

    assert (spray.alert, spray.after, spray.more) == (alerts[0].alert, timedelta(seconds=60), 1)
    assert (unseen.alert, unseen.after) == (None, None)
    assert [one["found_after_s"] for one in attacks_document([spray, unseen])] == [60, None]
    console = plain_console(80)
    with console.capture() as capture:
        console.print(attacks_view([spray, unseen]))
    assert "60 s" in capture.get()
    assert "not found" in capture.get()
    assert "1 of 2 attacks found" in capture.get()


def test_an_attack_and_its_alert_are_a_line_each_in_80_columns() -> None:
    """With the longest words that the simulator and the packs have, nothing is wrapped."""
    titles = [one.title for one in load_packs(["core", "devo"]).rules if one.alerts]
    kept = alert_with("x", first_s=0, last_s=0, evidence=("a",))
    told = replace(kept.alert, title=max(titles, key=len)[: 80 - len("    12345678 , and 12 more")])
    longest = JudgedAttack(
        StagedAttack("Mailbox delegated to another account", NOW, ("a",)), told, timedelta(hours=100), 12
    )
    console = plain_console(80)
    with console.capture() as capture:
        console.print(attacks_view([longest, replace(longest, more=0)]))

    _, head, *lines = capture.get().splitlines()
    assert head.split() == ["began", "attack", "after"]
    assert [line[:4].strip() == "" for line in lines[:4]] == [False, True, False, True]
    assert {line.rstrip()[-5:] for line in lines[:4:2]} == {"100 h"}
    assert max(len(line.rstrip()) for line in lines) <= 80


def alert_with(
    rule_id: str, *, first_s: int, last_s: int, evidence: tuple[str, ...], severity: Severity = Severity.HIGH
) -> KeptAlert:
    start_ms = round(NOW.timestamp() * 1000)
    alert = Alert(
        id=make_alert_id(rule_id, "t", (), evidence[0]),
        rule_id=rule_id,
        title="Something",
        severity=severity,
        tenant="t",
        group=(),
        entities=(),
        first_at_ms=start_ms + 1000 * first_s,
        last_at_ms=start_ms + 1000 * last_s,
        count=len(evidence),
        evidence=evidence,
        explanation="It happened.",
    )
    return KeptAlert(alert, shown=True)


def not_in_readme(attacks: list[dict[str, Any]]) -> list[str]:
    """What README's table of attacks says of a demo, and this one did not find.

    On every fifth day a week has the same attacks twice.
    """
    shown = [(row["title"], row["alert"]) for row in _ROW.finditer(README)]
    found = {(one["title"], one["alert_title"]) for one in attacks if one["alert"]}
    [count] = re.findall(r"^(\d+ of \d+) attacks found; ", README, re.MULTILINE)
    kinds, kinds_found = ({one["title"] for one in attacks}, {title for title, _ in found})

    assert shown
    return [f"{title}: {alert}" for title, alert in shown if (title, alert) not in found] + (
        [] if count == f"{len(kinds_found)} of {len(kinds)}" else [count]
    )


def test_a_demo_that_finds_otherwise_than_readme_says_is_seen() -> None:
    """Another alert, or an attack that nothing tells of; the same attacks twice are no other."""
    rows = [
        {"title": row["title"], "alert_title": row["alert"], "alert": "x"} for row in _ROW.finditer(README)
    ]
    others = [{"title": f"{at}", "alert_title": "", "alert": "y"} for at in range(10 - len(rows))]
    attacks = rows + others
    another, unseen = rows[0] | {"alert_title": "Another"}, others[0] | {"alert": None}

    assert not_in_readme(attacks) == not_in_readme(attacks * 2) == []
    assert not_in_readme([another, *attacks[1:]]) == [f"{rows[0]['title']}: {rows[0]['alert_title']}"]
    assert not_in_readme([*attacks[:-9], unseen, *others[1:]]) == ["10 of 10"]


@pytest.mark.slow
def test_the_whole_demo_ends_with_a_perfect_account(tmp_path: Path) -> None:
    """From the tenant to SQL on the lake, in a folder with a space, without a terminal."""
    folder = tmp_path / "my demo"
    # A whole week, so that it has the attacks in it; few records a day.
    sizes = ("--days", "7", "--records-per-day", "300")
    program = [sys.executable, "-m", "m365watch.cli.main"]
    ended = subprocess.run(
        [*program, "demo", "--directory", str(folder), *sizes, "--json"],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    document = json.loads(ended.stdout)

    assert (ended.returncode, document["shortcomings"]) == (0, [])
    assert document["totals"]["blobs"]["listed"] == document["totals"]["blobs"]["delivered"] > 0
    assert document["this_run"] == document["totals"]
    assert document["totals"]["records"]["delivered"] == sum(
        row["records"] for row in document["findings"]["records-per-table"]
    )
    assert len(document["attacks"]) >= 10
    assert all(one["alert"] and one["found_after_s"] >= 0 for one in document["attacks"])
    assert not_in_readme(document["attacks"]) == []
    [caught] = re.findall(r"caught up with ([\d,]+) record", ended.stderr)
    before = int(caught.replace(",", ""))
    assert document["live_records"] == document["totals"]["records"]["delivered"] - before
    status = subprocess.run(
        [*program, "status", "--config", str(folder / "config.json"), "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(status.stdout)["totals"] == document["totals"]


def test_a_demo_whose_course_meets_a_defect_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would else have ended the live traffic, and nothing was said."""

    def fail(_: object) -> bool:
        raise RuntimeError("nobody has thought of it")

    monkeypatch.setattr("m365watch.cli.demo.demo_run.is_complete", fail)
    plan = PlayPlan(TenantPlan(seed=1, days=1, records_per_day=1), tmp_path / "c.json", keep_running=False)
    course = Course(plan, console=Console(file=StringIO()))
    monkeypatch.setattr(course, "_view", Nothing())

    async def collect() -> BaseException | None:
        reload = Reload([], course._file.read_again, SystemClock())
        collector = FakeCollector(outcome(), until_stopped=True)
        going = asyncio.create_task(course._collect_until_live_is_over(collector, reload, ()))
        ended, _ = await asyncio.wait([going], timeout=PATIENCE_S)
        assert ended
        return going.exception()

    assert isinstance(asyncio.run(collect()), RuntimeError)
