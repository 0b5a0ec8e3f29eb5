"""Collectors: every input, output and service with its state, and what may be done to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from m365watch.board.access.roles import Role
from m365watch.board.config_editor.change_history import PastChange, list_past
from m365watch.board.config_editor.config_changes import OUTPUTS_COUNT, Change, Kind, Remove, Switch, Undo
from m365watch.board.config_editor.config_file import Current
from m365watch.board.config_editor.config_instances import InputText, OutputText, inputs_of, outputs_of
from m365watch.board.config_editor.config_status import Refused, Standing, read_current, read_standing
from m365watch.board.pages.health.health_cells import sentence
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.ledger_queries import list_outputs, see_collector, sees_every_tenant
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import instant_text
from m365watch.board.widgets.labels import counted, span_words
from m365watch.board.widgets.widget_types import (
    Act,
    Empty,
    Instance,
    Instances,
    Past,
    PastShown,
    ServiceShown,
    Shape,
    Tile,
    Tiles,
    Trial,
    Way,
)
from m365watch.common.errors import SettingsRefused
from m365watch.common.missing_files import fix_of
from m365watch.common.model import Feed, Service
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import MARK
from m365watch.health.config_status import places_of
from m365watch.health.tenant_status import TenantStanding, TenantState
from m365watch.registry.output_specs import OUTPUTS
from m365watch.sources.management_api.responses import CONTENT_LIFE

TENANTS_NAMED_MAX = 3
PAST_SHOWN_MAX = 30
IN_ORDER_MAX = 6
"""Instances that stand as the file has them; of more the worst comes first."""
_WORST = ("critical", "high", "medium", "low", "ok", "muted")
NOT_FOR_SOME = Empty("The configuration belongs to all tenants together, and your role sees some of them.")
_SERVICE_WORDS = {
    Service.AZURE_ACTIVE_DIRECTORY: "Entra ID",
    Service.EXCHANGE: "Exchange",
    Service.SHAREPOINT: "SharePoint & OneDrive",
    Service.GENERAL_AUDIT: "Everything else",
    Service.DLP: "Data loss prevention",
    Service.SERVICE_HEALTH: "Service health",
}
_TONES = {
    TenantState.NO_CONSENT: "critical",
    TenantState.REFUSED: "critical",
    TenantState.IN_TROUBLE: "high",
    TenantState.FAILING: "high",
    TenantState.THROTTLED: "medium",
    TenantState.POISONED: "medium",
    TenantState.SILENT: "medium",
    TenantState.BEHIND: "medium",
    TenantState.NEW: "low",
    TenantState.RUNNING: "ok",
    TenantState.STOPPED: "muted",
}
_ONLY_RUNNING = frozenset(
    {TenantState.RUNNING, TenantState.NEW, TenantState.BEHIND, TenantState.SILENT, TenantState.THROTTLED}
)
"""What a feed is in while a collector runs; the others want a person whether one runs or not."""


async def standing(view: View, sources: Sources) -> Shape:
    """Whether a collector runs, and whether it has the configuration as it stands in the file."""
    if not sees_every_tenant(view):
        return Tiles((), empty=NOT_FOR_SOME)
    current, found = await asyncio.gather(read_current(sources), read_standing(view, sources))
    past = await asyncio.to_thread(list_past, sources.settings.state_directory, count_max=1)
    seen = await see_collector(sources, await sources.list_feeds(view) or ())
    tiles = [_collector_tile(found, seen.stopped_words(view.now)), _file_tile(view, current, found)]
    if not isinstance(current, Refused):
        tiles += _count_tiles(current, found)
    tiles.append(_past_tile(view, past))
    return Tiles(tiles)


def _collector_tile(found: Standing, stopped: str) -> Tile:
    if found.collector is None:
        since = stopped.partition(", ")[2]
        note = f"{since}; m365watch run starts it" if since else "m365watch run starts it"
        return Tile("Collector", "not running", note, tone="high")
    return Tile("Collector", "running", found.collector)


def _file_tile(view: View, current: Current | Refused, found: Standing) -> Tile:
    name = "Configuration"
    if isinstance(current, Refused):
        return Tile(name, "unreadable", "; ".join(current.mistakes), tone="critical")
    if found.mistakes:
        return Tile(name, "refused", found.mistakes[0], tone="critical")
    if found.is_behind:
        return Tile(name, "not read yet", "the collector reads it within seconds", tone="medium")
    if found.needs_restart:
        return Tile(name, "restart due", found.needs_restart[0], tone="medium")
    if found.loaded_at is None and found.collector is not None:
        return Tile(name, "restart due", found.unread, tone="medium")
    if found.loaded_at is None:
        return Tile(name, "not used yet", str(current.file.path), tone="muted")
    ago = span_words((view.now - found.loaded_at).total_seconds())
    return Tile(name, "in use", f"read {ago} ago")


def _count_tiles(current: Current, found: Standing) -> list[Tile]:
    try:
        inputs = inputs_of(current.file.text, suffix=current.file.suffix)
        outputs = outputs_of(current.file.text, suffix=current.file.suffix)
    except Unreadable:
        return []
    tenants = {tenant for one in inputs if one.is_on for tenant in one.tenants}
    off = sum(not one.is_on for one in inputs)
    states = [state for one in inputs if one.is_on for state in one.services.values()]
    paused = states.count(False)
    where = " in the file" if found.unread else ""
    return [
        Tile(
            "Inputs",
            str(len(inputs)),
            f"{off} of them stopped" if off else counted(len(tenants), "tenant", "tenants"),
        ),
        Tile("Services", f"{states.count(True):,}", f"{paused} paused{where}" if paused else "none paused"),
        Tile(
            "Outputs",
            str(len(outputs) or 1),
            "the lake, by default" if not outputs else _stopped_words(outputs),
        ),
    ]


def _stopped_words(outputs: Iterable[OutputText]) -> str:
    off = sum(not one.is_on for one in outputs)
    return f"{off} of them stopped" if off else "all of them on"


def _past_tile(view: View, past: list[PastChange]) -> Tile:
    if not past:
        return Tile("Last change", "none", "from the board", tone="muted")
    ago = span_words(view.now.timestamp() - past[0].at_s)
    return Tile("Last change", f"{ago} ago", f"{past[0].by}: {past[0].what}")


async def inputs(view: View, sources: Sources) -> Shape:
    """Each input with its services, their states, and the buttons that change them."""
    if not sees_every_tenant(view):
        return Instances((), "", empty=NOT_FOR_SOME)
    current = await read_current(sources)
    if isinstance(current, Refused):
        return Instances((), "", empty=current.empty)
    tenants, feeds, run = await asyncio.gather(
        sources.list_tenants(view), sources.list_feeds(view), read_standing(view, sources)
    )
    is_running = run.collector is not None
    known = _Known(
        view, tenants, {one.feed: one for one in feeds or ()}, is_running=is_running, unread=run.unread
    )
    try:
        found = inputs_of(current.file.text, suffix=current.file.suffix)
    except Unreadable as error:
        return Instances((), "", empty=Empty(str(error)))
    on = [one.name for one in found if one.is_on]
    rows = [_input_row(view, one, known, is_last=on == [one.name]) for one in found]
    new = [Way("New input", view.url("/instance", instance="inputs", template="office365"))]
    if len(rows) > IN_ORDER_MAX:
        rows.sort(key=lambda row: (_WORST.index(row.tone), row.name))
    refused = [f"The collector refuses the file: {one}" for one in run.mistakes]
    cure = [_cure(run)] if refused and run.fix else []
    return Instances(rows, current.base, new, [*refused, *cure, *run.needs_restart])


class _Known:
    """What the ledger knows of tenants and feeds."""

    def __init__(
        self,
        view: View,
        tenants: list[TenantStanding],
        feeds: Mapping[Feed, FeedProgress],
        *,
        is_running: bool,
        unread: str,
    ) -> None:
        self._view = view
        self._unread = unread
        self._is_running = is_running
        self._tenants = {one.tenant_id.lower(): one for one in tenants}
        self._feeds = feeds
        self._of: dict[tuple[str, str], Feed] = {
            (feed.tenant_id.lower(), feed.content_type): feed for feed in feeds
        }

    def tenants_of(self, one: InputText) -> list[TenantStanding]:
        found = (self._tenants.get(tenant.lower()) for tenant in one.tenants)
        return [tenant for tenant in found if tenant is not None]

    def service(self, one: InputText, service: Service) -> ServiceShown:
        """How a service of an input stands, over all of its tenants."""
        is_on = one.services[service]
        found = (self._of.get((tenant.lower(), str(service.content))) for tenant in one.tenants)
        feeds = [feed for feed in found if feed is not None]
        act = _act(
            Switch("inputs", one.name, on=not is_on, service=service),
            "Pause" if is_on else "Start",
            f"{'Pause' if is_on else 'Start'} {service} of {one.name}",
        )
        words = _SERVICE_WORDS[service]
        if is_on and one.is_on:
            return ServiceShown(words, *self._running(one, feeds), act=act)
        if is_on is False and one.is_on and self._unread:
            return ServiceShown(words, "paused in the file", "medium", self._unread, act)
        state = "stopped" if is_on else "not collected" if is_on is None else "paused"
        return ServiceShown(words, state, "muted", self._left(feeds), act if one.is_on else None)

    def _running(self, one: InputText, feeds: list[Feed]) -> tuple[str, str, str]:
        states = [
            state
            for tenant in self.tenants_of(one)
            for feed in feeds
            if (state := tenant.states.get(feed)) is not None
        ]
        if not states:
            return "new", "low", "not listed yet"
        worst = min(states, key=list(TenantState).index)
        lags = [lag for feed in feeds if (lag := self._feeds[feed].lag_s(self._view.now)) is not None]
        records = sum(self._feeds[feed].records_delivered for feed in feeds)
        behind = f"{span_words(max(lags))} behind, " if lags else ""
        return *self.words_of(worst), f"{behind}{counted(records, 'record', 'records')}"

    def words_of(self, state: TenantState) -> tuple[str, str]:
        """A state with its tone: without a collector nothing runs, whatever the ledger says last."""
        if not self._is_running and state in _ONLY_RUNNING:
            return "not running", "muted"
        return str(state), _TONES[state]

    def _left(self, feeds: list[Feed]) -> str:
        """Up to when a service that is not collected was, and until when nothing is lost."""
        marks = [mark for feed in feeds if (mark := self._feeds[feed].watermark) is not None]
        if not marks:
            return ""
        left = (min(marks) + CONTENT_LIFE - self._view.now).total_seconds()
        if left <= 0:
            return "content is lost by now"
        return f"no loss for {span_words(left)}"


def _input_row(view: View, one: InputText, known: _Known, *, is_last: bool) -> Instance:
    tenants = known.tenants_of(one)
    worst = min(tenants, key=lambda tenant: list(TenantState).index(tenant.state), default=None)
    state, tone = ("stopped", "muted") if not one.is_on else ("new", "low")
    if one.is_on and worst is not None:
        state, tone = known.words_of(worst.state)
    acts = _acts("inputs", one.name, is_on=one.is_on, is_last=is_last)
    is_wrong = one.is_on and worst is not None
    return Instance(
        "inputs",
        one.name,
        f"{one.proof}, {one.cloud}",
        state,
        tone,
        view.url("/instance", instance=f"inputs.{one.name}"),
        says=(worst.error or "") if is_wrong and worst else "",
        fix=(worst.fix or "") if is_wrong and worst else "",
        facts=_input_facts(one, tenants),
        services=[known.service(one, service) for service in _SERVICE_WORDS],
        acts=acts,
        copy=view.url("/instance", instance="inputs", template=f"inputs.{one.name}"),
        trial=f"inputs.{one.name}" if one.is_on else "",
    )


def _input_facts(one: InputText, tenants: list[TenantStanding]) -> list[tuple[str, str]]:
    more = len(one.tenants) - TENANTS_NAMED_MAX
    named = ", ".join(one.tenants[:TENANTS_NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
    facts = [
        ("Tenant" if len(one.tenants) == 1 else "Tenants", named or "none"),
        ("Application", one.client_id),
    ]
    if len(one.tenants) > 1:
        states = [str(tenant.state) for tenant in tenants]
        facts.append(
            ("States", ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
        )
    facts.append(("Outputs", ", ".join(one.outputs) or "all"))
    return [fact for fact in facts if fact[1]]


async def outputs(view: View, sources: Sources) -> Shape:
    """Each output: whether it takes what it is given, and the buttons that change it."""
    if not sees_every_tenant(view):
        return Instances((), "", empty=NOT_FOR_SOME)
    current = await read_current(sources)
    if isinstance(current, Refused):
        return Instances((), "", empty=current.empty)
    progress, run = await asyncio.gather(list_outputs(sources), read_standing(view, sources))
    try:
        found = outputs_of(current.file.text, suffix=current.file.suffix)
    except Unreadable as error:
        return Instances((), "", empty=Empty(str(error)))
    places = await asyncio.to_thread(_places_in_file, sources)
    names = ("lake", *(one.name for one in found))
    states = {name: _not_taken_up(name, places, run) or _output_state(name, progress, run) for name in names}
    on = [one.name for one in found if one.is_on]
    rows = [_output_row(view, one, states[one.name], is_last=on == [one.name]) for one in found]
    if not found:
        rows = [_default_lake(view, states["lake"])]
    types = [spec.type for spec in OUTPUTS.specs]
    new = [Way(f"New {one}", view.url("/instance", instance="outputs", template=one)) for one in types]
    return Instances(rows, current.base, new, _left_out(places, run), note=OUTPUTS_COUNT)


def _places_in_file(sources: Sources) -> dict[str, str] | None:
    """Where the file says by now that each output writes; None while it has mistakes."""
    try:
        return places_of(sources.desk.settings_now(sources.settings))
    except SettingsRefused:
        return None


def _left_out(places: Mapping[str, str] | None, run: Standing) -> list[str]:
    """The outputs that a run still has, and the file names no more."""
    if not run.unread or places is None:
        return []
    return [
        f"The collector goes on with {name}, which the file names no more: {place}."
        for name, place in (run.outputs or {}).items()
        if name not in places
    ]


def _cure(run: Standing) -> str:
    return sentence(run.fix.replace("`", ""))


def _not_taken_up(name: str, places: Mapping[str, str] | None, run: Standing) -> _OutputState | None:
    """What is said of an output that the run has not, or has elsewhere; None where it has it so."""
    if not run.unread or run.outputs is None:
        return None
    had = run.outputs.get(name)
    if had is not None and (places is None or places.get(name) == had):
        return None
    goes_on = "has no such output" if had is None else f"goes on with {had}"
    return _OutputState("in the file", "medium", f"{run.unread}, and {goes_on}")


def _default_lake(view: View, shown: _OutputState) -> Instance:
    state, tone, says, fix, _ = shown
    url = view.url("/instance", instance="outputs", template="lake")
    about = "lake, by default: no output is named"
    return Instance("outputs", "lake", about, state, tone, url, says, fix)


def _output_row(view: View, one: OutputText, shown: _OutputState, *, is_last: bool) -> Instance:
    state, tone, says, fix, waiting = shown if one.is_on else _OutputState("stopped", "muted")
    return Instance(
        "outputs",
        one.name,
        f"{one.type}, {one.where}" if one.where else one.type,
        state,
        tone,
        view.url("/instance", instance=f"outputs.{one.name}"),
        says,
        fix,
        facts=[("Waiting", counted(waiting, "blob", "blobs"))] if waiting else (),
        acts=_acts("outputs", one.name, is_on=one.is_on, is_last=is_last),
        copy=view.url("/instance", instance="outputs", template=f"outputs.{one.name}"),
        trial=f"outputs.{one.name}" if one.is_on else "",
    )


class _OutputState(NamedTuple):
    state: str
    tone: str
    says: str = ""
    fix: str = ""
    waiting: int = 0
    """Blobs that it is owed."""


def _output_state(name: str, known: Mapping[str, OutputProgress] | None, run: Standing) -> _OutputState:
    if known is None:
        return _OutputState("not used yet", "low")
    one = known.get(name)
    if one is not None and one.missing_files is not None and not one.last_error:
        what = one.missing_files.what
        return _OutputState(
            "files missing", "critical", what, fix_of(name, one.missing_files), one.blobs_missing
        )
    if one is None or not (one.last_error or one.blobs_missing):
        return (
            _OutputState("not running", "muted") if run.collector is None else _OutputState("in order", "ok")
        )
    if not one.last_error:
        return _OutputState("behind", "medium", waiting=one.blobs_missing)
    state, tone = ("refuses", "critical") if one.needs_operator else ("fails", "high")
    return _OutputState(state, tone, one.last_error, one.fix or "", one.blobs_missing)


def _acts(kind: Kind, name: str, *, is_on: bool, is_last: bool) -> list[Act]:
    """What may be done to an instance; the last one that is on can neither stop nor go."""
    if is_last:
        return []
    return [
        _act(Switch(kind, name, on=not is_on), "Stop" if is_on else "Start"),
        _act(Remove(kind, name), "Remove"),
    ]


def _act(change: Change, words: str, title: str = "") -> Act:
    return Act(words, msgspec.json.encode(change).decode(), title)


async def history(view: View, sources: Sources) -> Shape:
    """The changes that were made on this page, each to be undone."""
    if not sees_every_tenant(view):
        return Past((), "", empty=NOT_FOR_SOME)
    current = await read_current(sources)
    if isinstance(current, Refused):
        return Past((), "", empty=current.empty)
    past = await asyncio.to_thread(list_past, sources.settings.state_directory, count_max=PAST_SHOWN_MAX)
    undone = {one.undoes: one.number for one in past if one.undoes}
    why = Empty(
        "Nothing was changed from the board yet.", "What is changed in the file itself is not listed."
    )
    rows = [_past_row(view, one, undone.get(one.number)) for one in past]
    return Past(rows, current.base, empty=None if rows else why)


def _past_row(view: View, one: PastChange, undone_by: int | None) -> PastShown:
    undo = _act(Undo(one.number), "Undo", f"Undo change {one.number}")
    anew = None
    if one.after is None and MARK in (one.before or ""):
        anew = Way("Create anew", view.url("/instance", instance=one.path[0], past=str(one.number)))
    return PastShown(
        one.number,
        instant_text(int(one.at_s)),
        one.by,
        one.what,
        difference_lines(one.difference),
        None if undone_by or anew else undo,
        None if undone_by else anew,
        f"undone by change {undone_by}" if undone_by else "",
    )


def difference_lines(difference: str) -> list[tuple[str, str]]:
    """Each line of a difference with how it is shown; the file's names are left out."""
    tones = {"+": "added", "-": "removed", "@": "place"}
    lines = [line for line in difference.splitlines() if not line.startswith(("+++", "---"))]
    return [(tones.get(line[:1], ""), line) for line in lines]


async def trial(view: View, sources: Sources) -> Shape:  # noqa: ARG001 - a loader's signature
    """What a preflight is, before it was run."""
    if not sees_every_tenant(view):
        return Trial("", empty=NOT_FOR_SOME)
    return Trial("Try what a run needs: files, disk, network, tokens, permissions, listings, outputs.")


PAGE = Page(
    "collectors",
    "Collectors",
    (
        Panel(
            "standing",
            "Collector",
            standing,
            says="Whether the configuration is in use.",
            tall="tiles",
            is_live=True,
        ),
        Panel(
            "inputs",
            "Inputs",
            inputs,
            says="What is collected, and how it stands.",
            tall="rows",
            is_live=True,
        ),
        Panel("outputs", "Outputs", outputs, width=7, says="Where records go.", tall="rows", is_live=True),
        Panel("history", "Changes", history, width=5, says="What was changed from the board.", tall="rows"),
        Panel("trial", "Preflight", trial, says="What `m365watch check` tries.", tall="rows"),
    ),
    says="Every change is shown before it is made, and can be undone. No secret is ever sent to a browser.",
    role=Role.ADMIN,
    is_timeless=True,
    is_taken_along=False,
)
