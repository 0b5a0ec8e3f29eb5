"""The counter of entered functions: what the hook notes, and what of it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from tools.entered import Service, Turns

_PROGRAM = """
import subprocess, sys, threading
def before(): pass
before()
turn = open(sys.argv[1], "r+b", 0)
turn.write(b"\\x01")
def called(): return [one for one in map(lambda one: one, "ab")]
def threaded(): pass
def never(): pass
class Body: pass
called()
thread = threading.Thread(target=threaded)
thread.start(); thread.join()
subprocess.run([sys.executable, "-P", "-c", "import child; child.descended()"], check=True)
turn.seek(0); turn.write(b"\\x02")
called()
turn.seek(0); turn.write(b"\\x03")
called(); before()
"""


def test_functions_of_threads_and_children_are_noted_while_a_turn_lasts(tmp_path: Path) -> None:
    """Nothing of before, no lambda, class or module; each once in a turn, with its file."""
    package = tmp_path / "src" / "m365watch"
    package.mkdir(parents=True)
    (package / "parent.py").write_text(_PROGRAM)
    (package / "child.py").write_text("def descended(): pass\n")
    turns = Turns(tmp_path)
    environment = turns.environment(tmp_path)
    environment["PYTHONPATH"] += f":{package}"

    command = [sys.executable, "-P", str(package / "parent.py"), str(tmp_path / "turn")]
    subprocess.run(command, env=environment, check=True)

    assert (tmp_path / "trace").read_text().splitlines() == [
        "1\tparent.py\tcalled",
        "1\tparent.py\tthreaded",
        "1\tchild.py\tdescended",
        "2\tparent.py\tcalled",
        "3\tparent.py\tcalled",
        "3\tparent.py\tbefore",
    ]


def test_what_counts_was_entered_in_every_turn_after_the_idle_ones(tmp_path: Path) -> None:
    """The first turn warms up, the next two idle; what only one of the others has is chance."""
    turns = Turns(tmp_path)
    entered = {1: ["first"], 2: ["tick", "sweep"], 3: ["tick"], 4: ["both", "once"], 5: ["both"]}
    lines = [f"{turn}\ta.py\t{name}" for turn, names in entered.items() for name in names]
    (tmp_path / "trace").write_text("\n".join(lines))
    for _ in entered:
        turns.begin()

    assert turns.common() == {("a.py", "both")}
    assert turns.idling() == {("a.py", "tick")}


def test_a_turn_begins_with_the_listing_that_names_the_record() -> None:
    """Every later listing names it too, and its blob has it alone."""
    begun: list[int] = []
    service = Service(lambda: begun.append(1))
    url = f"{service.url}/feed/subscriptions/content?contentType=Audit.General"
    url += "&startTime=2000-01-01T00:00:00&endTime=2999-01-01T00:00:00"
    try:
        assert json.load(urlopen(url)) == []
        service.offer("Made")
        assert begun == []
        [[blob], again] = [json.load(urlopen(url)) for _ in range(2)]
        [record] = json.load(urlopen(blob["contentUri"]))
    finally:
        service.close()

    assert again == [blob]
    assert (record["Operation"], begun) == ("Made", [1])
