"""What a change of the configuration brings about, in words, before it is made."""

from __future__ import annotations

from m365watch.board.configuring.changes import Change, Remove, Switch
from m365watch.config.load import load_settings
from m365watch.config.settings import Settings
from m365watch.errors import SettingsRefused
from m365watch.inspection import who_collects
from m365watch.tenancy.changes import plan_change

_PAUSED = "Nothing is lost if it is started again within 7 days, for as long as Microsoft serves the content."
_REMOVED = "What was collected stays in the lake and at every output."


def words_of_effect(settings: Settings, change: Change, new: Settings | None) -> list[str]:
    """What a run does with it, a sentence each; none for a change that cannot be made."""
    if new is None:
        return []
    said = [_run_words(settings, new)]
    if isinstance(change, Switch) and not change.on and change.kind == "inputs":
        said.append(_PAUSED)
    if isinstance(change, Remove):
        said.append(_REMOVED)
    return said + _restart_words(settings, new)


def _run_words(settings: Settings, new: Settings) -> str:
    if who_collects(settings) is None:
        return "No collector is seen to run; the next one begins with it."
    if not new.watches_configuration:
        return "The collector does not watch its file (globals.watch_configuration): send it SIGHUP."
    return "The running collector takes it up within seconds."


def _restart_words(settings: Settings, new: Settings) -> list[str]:
    """What a run cannot take up while it lasts."""
    if who_collects(settings) is None:
        return []
    try:
        now = load_settings(settings.path, environment={}, for_reading=True)
    except SettingsRefused:
        now = settings
    return list(plan_change(now, new).needs_restart)
