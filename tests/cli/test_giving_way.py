"""A process that gives way runs when no other one wants the core, with all its threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, sys, threading
from m365watch.cli.giving_way import give_way

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
