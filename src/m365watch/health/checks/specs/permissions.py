"""Who can change what the collector goes by, or read its lake; secrets were judged before."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import CheckSpec
from m365watch.registry.checks import Check, Checked, good, odd
from m365watch.registry.output_specs import LAKE

_OTHERS_CAN_CHANGE = 0o022
_OTHERS_CAN_ENTER = 0o005
_OTHERS_CAN_PASS = 0o001


def check_permissions(settings: Settings) -> list[Checked]:
    """Whether others can change what the collector goes by, or read its lake; secrets were judged before."""
    changed = [path for path in (settings.path, settings.state_directory) if _mode(path) & _OTHERS_CAN_CHANGE]
    told = [
        odd(Check.PERMISSIONS, f"others can change {path}", fix=f"run: chmod go-w {shlex.quote(str(path))}")
        for path in changed
    ]
    told += [
        odd(
            Check.PERMISSIONS,
            f"others can read records in {lake}",
            fix=f"run: chmod o-rwx {shlex.quote(str(lake))}",
        )
        for lake in (one.folder for one in settings.outputs if one.type == LAKE)
        if lake is not None and _is_open_to_others(lake)
    ]
    return told or [good(Check.PERMISSIONS, "others can change neither configuration nor state")]


def _is_open_to_others(lake: Path) -> bool:
    """Whether accounts that are neither the owner nor of the group get at what is in the lake."""
    above = lake.resolve().parents
    # Both: a folder that an operator made may be open, as long as what is in it is not.
    is_open = _mode(lake) & _mode(lake / "audit") & _OTHERS_CAN_ENTER
    return bool(is_open) and all(_mode(folder) & _OTHERS_CAN_PASS for folder in above)


def _mode(path: Path) -> int:
    """The permissions of the file; 0 where there is none, which others tell."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


SPEC = CheckSpec(
    type="permissions",
    rank=20,
    text="Whether others can change the file or the state, or read the lake.",
    look=lambda it: check_permissions(it.settings),
)
