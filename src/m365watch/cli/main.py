"""The entry point, which imports next to nothing: Ctrl-C has somewhere to go from the first moment on."""

from __future__ import annotations

import os
import signal
import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; leaves with one of the exit codes of the architecture page.

    Ctrl-C ends it with 130 and without a word, also while the commands are still being imported.
    """
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        # An exception in the middle of an import may be caught, or told, by whoever imports.
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    from m365watch.cli.program import run

    try:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
