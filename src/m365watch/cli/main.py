"""The entry point, which imports next to nothing: Ctrl-C has somewhere to go from the first moment on."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

EXIT_INTERRUPTED = 130
_OTHERS_AND_CHANGES = 0o027
"""The permissions that nothing made here has, whoever makes it: of others any, of the group to change it."""


def main() -> None:
    """Run the command line in a process of its own, which ends with one of the architecture page's codes."""
    code: object = 0
    _open_what_is_closed()
    # Here once, as the lake's files are made by libraries that take no mode; a stricter umask stays.
    os.umask(os.umask(_OTHERS_AND_CHANGES) | _OTHERS_AND_CHANGES)
    try:
        command_line()
    except SystemExit as leaving:
        code = leaving.code
    except BrokenPipeError:
        # Nobody reads any more what is said here.
        code = 1
    except Exception as error:  # noqa: BLE001 - told as Python would, but nothing is told or written after it
        _tell(error)
        code = 1
    sys.exit(_flush(0 if code is None else code))  # type: ignore[arg-type]


def _open_what_is_closed() -> None:
    """What the process was started without leads nowhere: a file would else be opened in its place.

    What is told, by libraries too, would be written into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def command_line() -> None:
    """Run the command line; raises SystemExit with one of the exit codes of the architecture page.

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


def _flush(code: object) -> object:
    """Write what is held back still; the exit code then, which is a failure's where that is not possible.

    What cannot be written is let go of: Python would try it again at its end, say so once more, and leave
    with a code of its own.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more, and nobody has to be told.
        code, sys.stdout = code or 1, None
    except (OSError, ValueError) as error:
        sys.stdout = None
        if code == 0:
            _tell(error)
        code = code or 1
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None
    return code


def _tell(error: Exception) -> None:
    """Say on stderr what Python, or whoever has taken that over, says of an error that ends the process."""
    # Where there is no room for it either, the exit code says it alone.
    with suppress(OSError, ValueError):
        sys.excepthook(type(error), error, error.__traceback__)


if __name__ == "__main__":
    main()
