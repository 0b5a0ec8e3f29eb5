"""A process that gives way runs when no other one wants the core, with all its threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from promises import guarantee

PROGRAM = """
import json, os, sys, threading
from m365watch.cli.board.low_priority import give_way

done, told = threading.Event(), []
def wait():
    done.wait()
    told.append([os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())])
before = threading.Thread(target=wait)
before.start()
give_way()
after = threading.Thread(target=wait)
after.start()
done.set()
before.join()
after.join()
wait()
json.dump(told, sys.stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules threads so")
def test_every_thread_gives_way_whenever_it_was_started() -> None:
    """The libraries have some before anybody can say so."""
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)

    assert json.loads(said.stdout) == [[os.SCHED_IDLE, 19]] * 3


BETWEEN = """
import json, os, sys, threading
from m365watch.cli.board import low_priority

asked, begun, done, told = threading.Event(), threading.Event(), threading.Event(), []
def late():
    begun.set()
    done.wait()
    told.append(os.sched_getscheduler(0))
def begin():
    asked.wait()
    threading.Thread(target=late).start()
before = threading.Thread(target=begin)
before.start()
shorten = low_priority._shorten_slice
def shorten_after(thread):
    asked.set()
    begun.wait()
    shorten(thread)
low_priority._shorten_slice = shorten_after
low_priority.give_way()
done.set()
while not told:
    pass
json.dump(told, sys.stdout)
"""
GROUP_OF_SESSION = """
import ctypes, json, os, sys
from pathlib import Path
from m365watch.cli.board.low_priority import give_way, open_autogroup
from m365watch.common.child_process import forbid_dumps
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which a change of user takes
group = Path("/proc/self/autogroup")
before = group.read_text()
autogroup = open_autogroup()
forbid_dumps()
give_way(autogroup)
json.dump([before, group.read_text()], sys.stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules threads so")
def test_a_thread_gives_way_that_another_began_meanwhile() -> None:
    """A board that serves has threads which begin others, when it first sees a collector."""
    said = subprocess.run([sys.executable, "-c", BETWEEN], capture_output=True, check=True)

    assert json.loads(said.stdout) == [os.SCHED_IDLE]


@guarantee(47)
@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this system knows no groups of sessions"
)
@pytest.mark.parametrize("own", [True, False])
def test_a_session_of_its_own_gives_way_with_the_process(own: bool) -> None:
    """Linux shares cores among sessions first; somebody else's, as of a terminal, stays as it is.

    The process is not root and leaves no core dump, as a board that runs as a service.

    Where no session was begun since the system started, as below a bare container, there is no group to read.
    """
    said = subprocess.run(
        [sys.executable, "-c", GROUP_OF_SESSION], capture_output=True, check=True, start_new_session=own
    )

    before, after = json.loads(said.stdout)
    assert after.strip().endswith("nice 19") if own else after == before
