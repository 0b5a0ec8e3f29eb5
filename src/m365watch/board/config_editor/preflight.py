"""A preflight run from a page: of the configuration, or of a change that is not made yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

import msgspec

from m365watch.board.config_editor.config_changes import Change
from m365watch.board.config_editor.config_file import Judged
from m365watch.board.query.data_sources import Sources
from m365watch.board.widgets.template_renderer import Templates
from m365watch.common.clock import system_random
from m365watch.common.errors import SettingsRefused
from m365watch.config.editor.tenants import check_text
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.health.checks.check_engine import Means, Progress, check_all, refused
from m365watch.http.client import open_session
from m365watch.registry.checks import Check, Group, Place, Preflight, Verdict

ANSWER_S = 20.0
"""How long one answer of a server may take."""
TOLD_EVERY_S = 0.25
_TITLES = {
    Place.MACHINE: "This machine",
    Place.NETWORK: "The network",
    Place.OUTPUTS: "The outputs",
}
_WORDS = {Verdict.OK: "in order", Verdict.NOTE: "odd", Verdict.BROKEN: "broken", Verdict.SKIPPED: "not tried"}
_TONES = {Verdict.OK: "ok", Verdict.NOTE: "medium", Verdict.BROKEN: "critical", Verdict.SKIPPED: "muted"}


class Busy(Exception):
    """One preflight is run at a time."""


class TrialAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What a page asks for."""

    base: str = ""
    change: Change | None = None
    """What the configuration is tried with; None: as it stands."""
    of: str = ""
    """`inputs.NAME` or `outputs.NAME`: this instance alone; empty: everything."""


class Trials:
    """Runs them, one at a time."""

    def __init__(self, sources: Sources, templates: Templates) -> None:
        """Nothing runs yet."""
        self._sources = sources
        self._templates = templates
        self._is_busy = False

    async def begin(
        self, asked: TrialAsked, judged: Judged | None = None
    ) -> AsyncGenerator[dict[str, object], None]:
        """What is told of it, as it comes: how far it is, groups, and the sums.

        `judged` is what the change comes to, where there is one.

        Raises: Busy; SettingsRefused: a change that cannot be made, or is not tried from a page.
        """
        if self._is_busy:
            raise Busy
        self._is_busy = True
        try:
            settings = await asyncio.to_thread(self._settings_of, judged)
        except BaseException:
            self._is_busy = False
            raise
        told = self._told(settings, asked.of)
        # Begun here, so that its end comes whoever leaves meanwhile.
        await anext(told)
        return told

    def _settings_of(self, judged: Judged | None) -> Settings | SettingsRefused:
        """The settings with their secrets, or what keeps a run from having them."""
        desk, settings = self._sources.desk, self._sources.settings
        current = desk.read(settings)
        text = current.file.text
        if judged is not None:
            refused = [one.says for one in judged.mistakes]
            if judged.changed is not None and not refused:
                refused = desk.inner_addresses(current, judged.changed)
            if judged.changed is None or refused:
                raise SettingsRefused(refused, where=str(settings.path))
            text = judged.changed.text
        try:
            return check_text(current.file, text, environment=desk.environment, for_reading=False)
        except SettingsRefused as error:
            return error

    async def _told(
        self, settings: Settings | SettingsRefused, of: str
    ) -> AsyncGenerator[dict[str, object], None]:
        preflight = Preflight()
        hide = self._sources.desk.hiding(self._sources.settings)
        try:
            yield {"kind": "begin"}
            if isinstance(settings, SettingsRefused):
                preflight = refused(settings)
                for group in preflight.groups:
                    yield self._group(_hidden(group, hide))
            else:
                async with aclosing(self._course(*_narrowed(settings, of))) as course:
                    async for found in course:
                        if isinstance(found, Group):
                            group = _hidden(_group_of(found, is_narrowed=bool(of)), hide)
                            preflight.groups.append(group)
                            yield self._group(group)
                        else:
                            yield {"kind": "progress", "says": hide(found)}
            yield {"kind": "end", "says": _summary(preflight), "broken": preflight.is_broken}
        finally:
            self._is_busy = False

    async def _course(
        self, settings: Settings, tenants: list[TenantSettings]
    ) -> AsyncGenerator[Group | str, None]:
        """Groups as they are known, and what is looked at meanwhile."""
        progress = Progress(total=len(tenants) + 3)
        clock = self._sources.clock
        async with open_session(stall_s=ANSWER_S, total_s=ANSWER_S) as session:
            means = Means(settings, session, clock, system_random(), ANSWER_S)
            async with aclosing(check_all(means, tenants, progress)) as groups:
                waiting = asyncio.ensure_future(anext(groups, None))
                said = ""
                try:
                    while True:
                        done, _ = await asyncio.wait({waiting}, timeout=TOLD_EVERY_S)
                        if done:
                            group = waiting.result()
                            if group is None:
                                return
                            yield group
                            waiting = asyncio.ensure_future(anext(groups, None))
                        elif (words := progress.words) != said:
                            said = words
                            yield said
                finally:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)

    def _group(self, group: Group) -> dict[str, object]:
        title = _TITLES.get(group.place, f"Tenant {group.name}")
        html = self._templates.render(
            "trial_group.html", title=title, group=group, words=_WORDS, tones=_TONES
        )
        return {"kind": "group", "html": html}


def _narrowed(settings: Settings, of: str) -> tuple[Settings, list[TenantSettings]]:
    """The settings with what the instance needs alone, and its tenants."""
    kind, _, name = of.partition(".")
    if kind == "inputs" and name:
        return replace(settings, outputs=()), [one for one in settings.tenants if one.input_name == name]
    if kind == "outputs" and name:
        return replace(settings, outputs=tuple(one for one in settings.outputs if one.name == name)), []
    return settings, list(settings.tenants)


def _hidden(group: Group, hide: Callable[[str], str]) -> Group:
    """The group without what variables of the file hold."""
    steps = [
        replace(one, seen=hide(one.seen), fix=one.fix and hide(one.fix), subject=hide(one.subject))
        for one in group.steps
    ]
    return replace(group, name=hide(group.name), steps=tuple(steps))


def _group_of(group: Group, *, is_narrowed: bool) -> Group:
    """The group; of one instance's trial without what counts all that the configuration has."""
    if not is_narrowed or group.place is not Place.MACHINE:
        return group
    steps = [
        step
        for step in group.steps
        if step.check is not Check.CONFIGURATION or step.verdict is not Verdict.OK
    ]
    return replace(group, steps=tuple(steps))


def _summary(preflight: Preflight) -> str:
    counts = preflight.counts
    sums = ", ".join(f"{counts[verdict]:,} {_WORDS[verdict]}" for verdict in Verdict if counts[verdict])
    return f"{'Something is broken' if preflight.is_broken else 'Nothing is broken'}: {sums}"
