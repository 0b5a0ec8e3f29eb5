"""What a change of the configuration brings about, in words, before it is made."""

from __future__ import annotations

from contextlib import suppress

from m365watch.board.config_editor.config_changes import Change, Remove, Switch
from m365watch.common.errors import LedgerUnusable, SettingsRefused
from m365watch.config.loader import load_settings
from m365watch.config.models.settings import Settings
from m365watch.health.collector_status import read_configuration, who_collects
from m365watch.runtime.config_changes import plan_change

OUTPUTS_COUNT = (
    "A running collector takes up what is changed here within seconds, once what is in flight is finished. "
    "A new output gets what is fetched from then on. "
    "These pages turn to a lake that is added or moved once it holds records."
)
_AT_ONCE = "The running collector takes it up within seconds."
_ANEW = (
    "What is in flight is finished first, which takes seconds. An output that is taken out, or is new, misses"
    " what is fetched without it; what all others get is neither lost nor comes twice."
)
_NEVER = "The running collector does not read its file again: it counts once that is restarted."
_ASKED = "The collector does not watch its file (globals.watch_configuration): send it SIGHUP."
_PAUSED = "Nothing is lost if it is started again within 7 days, for as long as Microsoft serves the content."
_REMOVED = "What was collected stays in the lake and at every output."


def words_of_effect(settings: Settings, change: Change, new: Settings | None) -> list[str]:
    """What a run does with it, a sentence each; none for a change that cannot be made."""
    if new is None:
        return []
    said = _run_words(settings, new)
    if isinstance(change, Switch) and not change.on and change.kind == "inputs":
        said.append(_PAUSED)
    if isinstance(change, Remove):
        said.append(_REMOVED)
    return said


def _run_words(settings: Settings, new: Settings) -> list[str]:
    """What is taken up at once, and what a run cannot take up while it lasts."""
    if who_collects(settings) is None:
        return ["No collector is seen to run; the next one begins with it."]
    try:
        now = load_settings(settings.path, environment={}, for_reading=True)
    except SettingsRefused:
        now = settings
    if _reads_once(settings):
        return [_NEVER]
    planned = plan_change(now, new)
    said = [_AT_ONCE if new.watches_configuration else _ASKED] if planned.text else []
    if planned.renews:
        said.append(_ANEW)
    if planned.needs_restart:
        waits = ", ".join(line.removesuffix("; needs a restart") for line in planned.needs_restart)
        said.append(f"The collector has to be restarted for it: {waits}.")
    return said


def _reads_once(settings: Settings) -> bool:
    """Whether the collector that runs has read its file and does so no more, as that of a demo."""
    with suppress(LedgerUnusable):
        return read_configuration(settings) is None
    return False
