"""Mutants without the half second that each start of a process takes.

One process imports what no mutant patches, and each mutant is a fork of it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from elsewhere import count_cpu_s

from mutants.child import judge_mutant

SECONDS_MAX = 300
"""For one mutant, on a machine that has other things to do: it may also go round for ever."""
_IMPORTED = ("m365watch.http.client", "m365watch.auth.tokens", "rbloom", "regex", "rich.console", "xxhash")
"""What a collector imports before the code that some mutant patches.
`install` refuses what comes too early."""


class Died(Exception):
    """A mutant came to no verdict."""


def first_broken(name: str, seeds: Sequence[int], *, is_control: bool = False) -> int | None:
    """The first of `seeds` in which that mutant breaks a promise, or its kind of collector without the bug.

    Raises: Died: it failed in another way, or took too long.
    """
    forks = _forks()
    answer, told = forks.Pipe(duplex=False)
    process = forks.Process(target=_judge, args=(told, name, seeds), kwargs={"is_control": is_control})
    process.start()
    told.close()
    try:
        if not answer.poll(SECONDS_MAX):
            raise Died(f"{name} came to no verdict in {SECONDS_MAX} s")
        seed, failure, cpu_s = answer.recv()
    except EOFError:
        raise Died(f"{name} ended without a verdict") from None
    finally:
        answer.close()
        process.kill()
        process.join()
    count_cpu_s(cpu_s)
    if failure:
        raise Died(failure)
    return None if seed is None else int(seed)


@cache
def _forks() -> ForkServerContext:
    forks = get_context("forkserver")
    forks.set_forkserver_preload(list(_IMPORTED))
    return forks


def _judge(told: Connection, name: str, seeds: Sequence[int], *, is_control: bool) -> None:
    try:
        verdicts = judge_mutant(name, seeds, is_control=is_control)
    except BaseException:  # noqa: BLE001 - whatever it is, it is told to whoever waits.
        told.send((None, traceback.format_exc(), time.process_time()))
    else:
        first = next((one.seed for one in verdicts if one.broken), None)
        told.send((first, "", time.process_time()))
