"""`run` as units and schedules call it, understood without the library that reads all other command lines.

To load that, and to have it read `run --config FILE --once`, takes a tenth of a start, 27 ms of CPU. What is
not understood here is left to it, mistakes included.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.lean import leave_out_plugins

if TYPE_CHECKING:
    from m365watch.cli.running import Asked

_FLAGS = {"--once", "--quiet"}


def asked_plainly(arguments: Sequence[str]) -> Asked | None:
    """What `run --config FILE`, with flags after it, asks for; None for all that the library has to read."""
    match arguments:
        case ["run", "--config" | "-c", file, *flags] if file[:1] not in {"", "-"} and _FLAGS.issuperset(
            flags
        ):
            from m365watch.cli.running import Asked

            return Asked(Path(file), once="--once" in flags, quiet="--quiet" in flags)
    return None


def run_plainly(asked: Asked) -> None:
    """Collect as `asked`; leaves with one of the exit codes of the architecture page."""
    leave_out_plugins()
    from m365watch.cli.failures import failing_as_devo, hide_tracebacks
    from m365watch.cli.running import run_as_asked
    from m365watch.cli.terminal import take_any_text

    take_any_text()
    hide_tracebacks(sys.argv[1:])
    failing_as_devo(lambda: sys.exit(run_as_asked(asked)))()
