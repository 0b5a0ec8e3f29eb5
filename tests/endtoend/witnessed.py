"""The command line, in a process that tells at SIGUSR1 what each of its threads is doing.

Called as `witnessed.py FILE ARGUMENT...`. The file is there once the signal can be sent; what is
written to it comes from the signal's own handler, so that it is true of the very moment.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from pathlib import Path


def main() -> None:
    testimony = Path(sys.argv.pop(1)).open("w")  # noqa: SIM115 - stays open for as long as the process lives
    faulthandler.register(signal.SIGUSR1, file=testimony, all_threads=True)

    from m365watch.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
