"""The entry point, which imports next to nothing: Ctrl-C has somewhere to go from the first moment on."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading

EXIT_INTERRUPTED = 130
_OTHERS_AND_CHANGES = 0o027
"""The permissions that nothing made here has, whoever makes it: of others any, of the group to change it."""


def main() -> None:
    """Run the command line in a process of its own, which ends with one of the architecture page's codes."""
    code: object = 0
    # Here once, as the lake's files are made by libraries that take no mode; a stricter umask stays.
    os.umask(os.umask(_OTHERS_AND_CHANGES) | _OTHERS_AND_CHANGES)
    try:
        command_line()
    except SystemExit as leaving:
        code = leaving.code
    _end_process(0 if code is None else code)


def command_line() -> None:
    """Run the command line; raises SystemExit with one of the exit codes of the architecture page.

    Ctrl-C ends it with 130 and without a word, also while the commands are still being imported.
    """
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        # An exception in the middle of an import may be caught, or told, by whoever imports.
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    from m365watch.cli.plain_run import asked_plainly, run_plainly

    asked = asked_plainly(sys.argv[1:])
    if asked is None:
        from m365watch.cli.program import run
    try:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if asked is None:
            run()
        else:
            run_plainly(asked)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _end_process(code: object) -> None:
    """End without taking apart, object by object, what the system takes back whole: 0.1 s of a run.

    The usual end is left to Python where it has something to say or somebody to wait for.
    """
    if not isinstance(code, int) or threading.active_count() > 1:
        sys.exit(code)  # type: ignore[arg-type]
    atexit._run_exitfuncs()  # noqa: SLF001 - as Python itself does before it takes everything apart
    try:
        for text in (sys.stdout, sys.stderr):
            # None where the process was started with it closed.
            if text is not None:
                text.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
