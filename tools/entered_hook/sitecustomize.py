"""Writes down each function of m365watch that is entered while a turn lasts; `tools/entered.py` sets it up.

Python imports a module of this name at its start, in child processes too. The first byte of the file
ENTERED_TURN is the turn that lasts, 0 for none. A function is written when a turn first enters it, so that
nothing is lost with a process that is killed. Modules, class bodies, lambdas and comprehensions do not count.
"""

import mmap
import os
import sys
import threading
from types import CodeType, FrameType

_TURN, _TRACE, _PACKAGE = "ENTERED_TURN", "ENTERED_TRACE", "ENTERED_PACKAGE"
_OPTIMIZED = 1
"""The flag of code that has fast locals: a function's, and neither a module's nor a class's."""


def _install() -> None:
    with open(os.environ[_TURN], "rb") as file:  # noqa: PTH123 - pathlib is not loaded yet, and costs a start
        turn = mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ)
    trace = os.open(os.environ[_TRACE], os.O_WRONLY | os.O_APPEND)
    package = os.environ[_PACKAGE].rstrip(os.sep) + os.sep
    seen: set[tuple[int, CodeType]] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        now = turn[0]
        if not now or event != "call" or (now, frame.f_code) in seen:
            return
        code = frame.f_code
        seen.add((now, code))
        file = code.co_filename
        if file.startswith(package) and file.endswith(".py") and is_function(code):
            os.write(trace, f"{now}\t{file.removeprefix(package)}\t{code.co_qualname}\n".encode())

    def is_function(code: CodeType) -> bool:
        return bool(code.co_flags & _OPTIMIZED) and code.co_name[0] != "<"

    threading.setprofile(note)
    sys.setprofile(note)


if _TURN in os.environ:
    _install()
