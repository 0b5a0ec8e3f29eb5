"""`m365watch respond`: what stops the intruder that an alert tells of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import write_line
from m365watch.cli.terminal.prompts import confirm
from m365watch.common.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from m365watch.cli.respond.plan_execution import Result
    from m365watch.config.models.settings import Settings
    from m365watch.detection.alerts.alert import Alert
    from m365watch.detection.alerts.stored_alert import KeptAlert
    from m365watch.response.plans.alert_records import Recalled
    from m365watch.response.steps.step import Plan


StepOption = Annotated[
    list[int] | None,
    typer.Option("--step", metavar="N", min=1, help="Only this one; may be repeated.", show_default=False),
]
PlanOption = Annotated[
    str | None, typer.Option("--plan", metavar="ID", help="Only if it is still this plan; --yes requires it.")
]


def respond(
    alert_id: Annotated[
        str, typer.Argument(metavar="ALERT", help="The alert's id, or as much of its beginning as is clear.")
    ],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    applies: Annotated[bool, typer.Option("--apply", help="Carry the steps out; asks for each.")] = False,
    undoes: Annotated[bool, typer.Option("--undo", help="Take back what --apply did.")] = False,
    numbers: StepOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    read: PlanOption = None,
    even_last: Annotated[
        bool,
        typer.Option("--even-last-administrator", help="Lock out the last Global Administrator, too."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a plan of containment for an alert: steps as Graph calls and as PowerShell; or carry it out.

    Without --apply nothing is changed. {subject.x} and {found.x} in a call stand for what the call before
    it answers; words in capitals in PowerShell are yours to fill in. What Graph cannot do says so. Values
    out of records are quoted; one that cannot be quoted whole is in no command.

    With --apply the application of detections.response carries the steps out over Graph. It asks for each;
    --yes asks for none, and requires the plan that you have read. What the alert does not name exactly is
    left for you to pick, and what ties an account to it by an address alone for you to decide. The last
    enabled Global Administrator is neither disabled nor loses the role, unless you say
    --even-last-administrator. Who did what is written down in the state directory before it is done; --undo
    reads it. What is to be done by hand is yours: the last line says how many steps that are, and --json as
    steps_by_hand.

    Works while `m365watch run` is running.

    Exit codes: 0 done, but for what is by hand; 1 some of it was not done, or has to be picked, or no alert
    can be read; 2 the configuration or the call is wrong, or there is no such alert; 4 another process is at
    --apply or --undo, and nothing was done.
    """
    from m365watch.response.plans.alert_records import recall

    _check_options(applies=applies, undoes=undoes, yes=yes, as_json=as_json)
    if not applies:
        _refuse({"--step": numbers, "--plan": read, "--even-last-administrator": even_last})
    for_reading = not (applies or undoes)
    settings = read_settings(config, job=job, collector=collector_file, for_reading=for_reading)
    given = alert_id.strip().lower()
    if undoes:
        raise typer.Exit(_undo(settings, given, yes=yes))
    kept = _find(settings, given)
    recalled = recall(settings.state_directory, kept)
    plan = _plan(settings, kept.alert, recalled)
    if applies:
        _check_plan(plan, numbers=numbers or (), read=read, yes=yes)
        if recalled.closed:
            _refuse_closed(kept.alert, recalled.closed, yes=yes)
        raise typer.Exit(_apply(settings, plan, numbers=numbers or [], yes=yes, even_last=even_last))
    _show(settings, plan, kept.alert, as_json=as_json)


def _find(settings: Settings, given: str) -> KeptAlert:
    from m365watch.detection.alert_store_rebuild import file_of_alerts
    from m365watch.detection.alerts.triage import NoSuchAlert, find_alert

    try:
        return find_alert(file_of_alerts(settings), given)
    except NoSuchAlert as error:
        raise typer.BadParameter(plain(str(error))) from None


def _plan(settings: Settings, alert: Alert, recalled: Recalled) -> Plan:
    from m365watch.detection.factory import load_rules
    from m365watch.response.execution.graph_client import own_apps
    from m365watch.response.plans.planner import plan_recalled
    from m365watch.response.steps.step import cloud_of

    rules = load_rules(settings.detections).by_id()
    return plan_recalled(
        alert,
        recalled,
        rules=rules,
        cloud=cloud_of(settings, alert.tenant),
        own_apps=own_apps(settings),
        spared=settings.detections.spared_accounts,
    )


def _refuse(given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise typer.BadParameter(f"{option} goes with --apply")


def _check_options(*, applies: bool, undoes: bool, yes: bool, as_json: bool) -> None:
    if applies and undoes:
        raise typer.BadParameter("--apply and --undo: give one of the two")
    if yes and not (applies or undoes):
        raise typer.BadParameter("--yes goes with --apply or --undo")
    if as_json and (applies or undoes):
        raise typer.BadParameter("--json goes with the plan alone")
    if (applies or undoes) and not yes:
        from m365watch.cli.respond.plan_execution import require_terminal

        require_terminal()


def _check_plan(plan: Plan, *, numbers: Sequence[int], read: str | None, yes: bool) -> None:
    """What nobody is asked about is the plan that was read, and no other."""
    if read is not None and read.strip().lower() != plan.mark:
        raise typer.BadParameter(
            f"--plan {plain(read)}: it is {plan.mark} by now; read it again: records came, or parts"
            " of it were closed"
        )
    if yes and read is None:
        raise typer.BadParameter(
            f"--apply --yes: name the plan that you have read with --plan ID;"
            f" `m365watch respond {plan.alert_id[:8]}` prints it"
        )
    for number in numbers:
        if number > len(plan.steps):
            raise typer.BadParameter(f"--step {number}: the plan has {len(plan.steps)}")


def _refuse_closed(alert: Alert, closed: str, *, yes: bool) -> None:
    told = f"the alert was {plain(closed)}"
    if yes:
        raise typer.BadParameter(f"{told}; open it again first: m365watch alerts reopen {alert.id[:8]}")
    if not confirm(f"{told}. Contain it all the same?"):
        raise typer.Exit(1)


def _apply(settings: Settings, plan: Plan, *, numbers: list[int], yes: bool, even_last: bool) -> int:
    from m365watch.cli.respond.plan_execution import apply_plan
    from m365watch.cli.respond.plan_view import once_more, yours
    from m365watch.response.execution.response_executor import Came

    results = apply_plan(settings, plan, numbers=numbers, asks=not yes, even_last=even_last, say=write_line)
    done = {one.number for one in results if one.told.came in {Came.DONE, Came.UNWRITTEN}}
    for line in once_more(plan, done):
        write_line(line)
    if left := [one for one in plan.by_hand if one in (numbers or plan.by_hand)]:
        write_line(yours(plan, left))
    if yes and any(one.told.came in {Came.PICK, Came.ASKS} for one in results):
        # What --yes leaves alone is asked for without it.
        sys.stderr.write("hint: on a terminal and without --yes, you are asked about what was left\n")
    return _code(results)


def _undo(settings: Settings, given: str, *, yes: bool) -> int:
    """Also of an alert that is forgotten, or cannot be read: what was done for it is written down apart."""
    from m365watch.cli.respond.plan_execution import undo_plan
    from m365watch.common.errors import OutputUnusable
    from m365watch.detection.alerts.triage import ID_DIGITS_MIN
    from m365watch.response.journal import Journal
    from m365watch.response.steps.step import Plan

    formerly: Sequence[str] = ()
    try:
        alert = _find(settings, given).alert
        plan, formerly = Plan(alert.id, alert.tenant, alert.title, ()), alert.formerly
    except (typer.BadParameter, OutputUnusable):
        line = Journal(settings.state_directory).find(given) if len(given) >= ID_DIGITS_MIN else None
        if line is None:
            raise
        plan = Plan(line.alert, line.tenant, "", ())
    results = undo_plan(settings, plan, formerly=formerly, asks=not yes, say=write_line)
    if not results:
        write_line("nothing to take back: nothing was done for this alert that can be undone")
    return _code(results)


def _code(results: Sequence[Result]) -> int:
    from m365watch.response.execution.response_executor import Came

    left = {Came.ASKS, Came.FAILED, Came.MISSING, Came.PICK, Came.REFUSED, Came.UNSEEN, Came.UNWRITTEN}
    return int(any(one.told.came in left for one in results))


def _show(settings: Settings, plan: Plan, alert: Alert, *, as_json: bool) -> None:
    from m365watch.cli.respond.plan_view import plan_document, plan_lines, write_plan
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.response.journal import Journal
    from m365watch.response.steps.step import cloud_of

    cloud = cloud_of(settings, plan.tenant)
    deeds = Journal(settings.state_directory).list_deeds(alert.id, *alert.formerly)
    if as_json:
        write_line(to_json(plan_document(plan, cloud=cloud, deeds=deeds)))
        return
    write_plan(plan_lines(plan, cloud=cloud, deeds=deeds))
