"""The demo's last word: the board, with a link to the gravest attack."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee
from rich.console import Console

from m365watch.cli.demo.attack_results import JudgedAttack
from m365watch.cli.demo.demo_board import TAKEOVER, listen_somewhere, path_to
from m365watch.cli.demo.demo_command import choose_board
from m365watch.cli.demo.demo_summary import print_no_board
from m365watch.cli.demo.tenant_process import StagedAttack
from m365watch.common.errors import NeedsOperator
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.rules.extension import Severity
from run_figures import NOW


def judged(title: str, *telling: Alert) -> JudgedAttack:
    """An attack that was found by these alerts, or not at all."""
    attack = StagedAttack(title, NOW, ())
    if not telling:
        return JudgedAttack(attack, None, None, 0)
    return JudgedAttack(attack, telling[0], timedelta(0), len(telling) - 1, telling)


def alert(name: str, severity: Severity, *, detection: str = "") -> Alert:
    """One with that id."""
    at_ms = round(NOW.timestamp() * 1000)
    return Alert(
        id=AlertId(name),
        rule_id="r",
        title=f"alert {name}",
        severity=severity,
        tenant="t",
        group=(),
        entities=(),
        first_at_ms=at_ms,
        last_at_ms=at_ms,
        count=1,
        evidence=(),
        explanation="",
        detection=detection,
    )


def test_the_link_leads_to_the_gravest_alert_of_all_attacks() -> None:
    """The first of several, and not only where it was its attack's first; what was not found is no link."""
    all_of_them = [
        judged("low", alert("a", Severity.LOW)),
        judged("first", alert("b", Severity.MEDIUM), alert("c", Severity.CRITICAL)),
        judged("second", alert("d", Severity.CRITICAL)),
        judged("missed"),
    ]

    assert path_to(all_of_them) == ("alert c, on the board", "/alert?alert=c")
    assert path_to([judged("missed")]) == ("The board", "/")


@guarantee(45)
def test_the_link_leads_to_the_takeover_where_there_was_one() -> None:
    """Which is critical like others, began later, and is told by an alert that was not its first."""
    role = judged("Administrator role granted", alert("a", Severity.CRITICAL, detection="I16"))
    takeover = judged(
        "Takeover", alert("b", Severity.HIGH), alert("c", Severity.CRITICAL, detection=TAKEOVER)
    )

    assert path_to([role, takeover]) == ("alert c, on the board", "/alert?alert=c")


def test_a_demo_that_lacks_the_board_says_so_to_whoever_looks_on() -> None:
    """As its last word, with what installs it; into a pipe, and to who wants none, nothing is said."""

    def lacking() -> None:
        raise NeedsOperator("the board needs the Python package jinja2", fix='pip install ".[board]"')

    shown, lacks = choose_board(None, on_terminal=True, require=lacking)
    console = Console(width=80, color_system=None)
    assert lacks is not None
    with console.capture() as capture:
        print_no_board(console, lacks)

    assert not shown
    assert capture.get().splitlines()[1:] == [
        "No board: the board needs the Python package jinja2",
        'hint: pip install ".[board]"',
    ]
    assert choose_board(None, on_terminal=False, require=lacking) == (False, None)
    assert choose_board(False, on_terminal=True, require=lacking) == (False, None)
    with pytest.raises(NeedsOperator):
        choose_board(True, on_terminal=False, require=lacking)


def test_another_port_is_taken_where_something_listens_at_the_usual_one() -> None:
    """A board that runs already is no reason to end the demo."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]

        with listen_somewhere(f"127.0.0.1:{taken}") as listener:
            host, port = listener.getsockname()

    assert host == "127.0.0.1"
    assert port not in {0, taken}


@pytest.mark.slow
def test_a_demo_that_goes_on_has_its_board_meanwhile_and_reads_its_file_again(tmp_path: Path) -> None:
    """What is paused on a page is paused; one signal ends collecting and board, and the account is told."""
    sizes = ["--days", "1", "--records-per-day", "300", "--keep-running"]
    command = [sys.executable, "-m", "m365watch.cli.main", "demo", "--directory", "demo", *sizes, "--board"]
    environment = os.environ | {"NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        said = ""
        try:
            while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/open\S*#(\S+)$", said, re.MULTILINE)):
                line = demo.stderr.readline()
                assert line, said
                said += line
            fetch = opened(found[1], found[2])
            assert "DLP.All" in fetch(f"{found[1]}/panel/health/feeds")
            pause_dlp(tmp_path / "demo" / "config.json")
            until_s = time.monotonic() + PATIENCE_S
            while "paused, no loss for 7 d" not in in_words(fetch(f"{found[1]}/panel/collectors/inputs")):
                assert time.monotonic() < until_s
                time.sleep(0.2)
        finally:
            demo.send_signal(signal.SIGTERM)
        told, _ = demo.communicate(timeout=PATIENCE_S)

    assert demo.returncode == 0
    assert "blobs listed" in told
    assert "on the board" not in told


def pause_dlp(config: Path) -> None:
    """The file without that service, put in place of the old one at once."""
    document = json.loads(config.read_text())
    [tenant] = document["inputs"].values()
    tenant["services"]["dlp"]["enabled"] = False
    new = config.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(document))
    new.replace(config)


def in_words(page: str) -> str:
    """What stands on it, with a comma between two things."""
    return re.sub(r"(\s*<[^>]*>\s*)+", ", ", page)


def opened(address: str, code: str) -> Callable[[str], str]:
    """What fetches pages, once the board listens, which the demo says just before, and was opened."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    browser.addheaders = [("Sec-Fetch-Site", "same-origin")]

    def fetch(url: str, form: bytes | None = None) -> str:
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                with browser.open(url, form, timeout=PATIENCE_S) as answer:
                    return str(answer.read().decode())
            except OSError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.05)

    fetch(f"{address}/open", f"code={code}&next=/healthz".encode())
    return fetch


@pytest.mark.slow
def test_a_document_and_a_board_are_not_had_together() -> None:
    """Exit code 2, before anything begins."""
    command = [sys.executable, "-m", "m365watch.cli.main", "demo", "--board", "--json"]

    assert subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S).returncode == 2
