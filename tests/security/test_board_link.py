"""Nobody reads the board by reaching its port: a link that counts once opens it in one browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from patience import PATIENCE_S
from ports import kept_port
from promises import guarantee

from served_board import (
    COMMAND,
    FROM_ELSEWHERE,
    LINK,
    OWN_PAGE,
    TYPED,
    WITHIN_ELSEWHERE,
    ServedBoard,
    board_of,
    collected_day,
    run,
)

SHOWS = ("/overview", "/panel/overview/figures", "/api/v1/overview/figures", "/export/overview/figures.csv")
SLOW_S = 2.0
NOTHING_COLLECTED = """\
inputs:
  office365:
    type: office365
    credentials:
      tenant_id: "5df5e41b-0640-4fdb-bf01-49691be8e735"
      client_id: "cde3d36d-c36a-4df6-abb3-607d29e179a4"
      client_secret: "none"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a day that was collected."""
    return collected_day(tmp_path_factory.mktemp("link"), tmp_path_factory)


@pytest.fixture(scope="module")
def served(config: Path) -> Iterator[ServedBoard]:
    """Its board."""
    with board_of(config) as board:
        yield board


@pytest.fixture
def stranger(served: ServedBoard) -> ServedBoard:
    """A browser of which the board knows nothing."""
    return ServedBoard(served.port, served.config, served.output, served.pid)


@pytest.fixture
def opened(stranger: ServedBoard) -> ServedBoard:
    """A browser that a link was opened in."""
    assert stranger.exchange(stranger.code()).status == 303
    return stranger


@guarantee(42)
@pytest.mark.parametrize("path", [*SHOWS, "/metrics", "/live", "/sign-in", "/sign-in/entra"])
def test_whoever_only_reaches_the_port_is_shown_nothing(stranger: ServedBoard, path: str) -> None:
    """Not from this machine either; probes are answered, and say nothing of anybody."""
    for headers in ({}, TYPED, OWN_PAGE):
        assert stranger.ask(path, headers).status == 401, headers
    assert stranger.ask("/healthz").text.strip() == "ok"
    assert json.loads(stranger.ask("/readyz").text)["ready"] is True


def test_a_browser_is_led_to_the_page_that_asks_for_the_link(stranger: ServedBoard) -> None:
    """With what it wanted to see; the page names the command that prints a link."""
    led = stranger.ask("/alerts?range=7d", TYPED | {"accept": "text/html"})
    page = stranger.ask(led.headers["location"], TYPED)

    assert (led.status, page.status) == (303, 200)
    assert led.headers["location"] == "/open?" + urlencode({"next": "/alerts?range=7d"})
    assert "m365watch board link" in page.text
    assert page.headers["referrer-policy"] == "no-referrer"


@guarantee(42)
@pytest.mark.slow
def test_a_link_opens_the_board_once(stranger: ServedBoard, served: ServedBoard) -> None:
    """The address that it leads to is clean; the cookie is for no script and no other site's requests."""
    code = stranger.code()
    reply = stranger.exchange(code, next="/alerts?range=7d")

    assert (reply.status, reply.headers["location"]) == (303, "/alerts?range=7d")
    assert reply.headers["referrer-policy"] == "no-referrer"
    [cookie] = reply.cookies
    assert re.match(rf"m365watch-{served.port}=", cookie)
    assert {"httponly", "samesite=lax", "path=/"} <= {one.strip().lower() for one in cookie.split(";")}
    assert stranger.ask("/overview", TYPED).status == 200
    assert stranger.ask("/panel/overview/figures", OWN_PAGE).status == 200

    other = ServedBoard(served.port, served.config, served.output, served.pid)
    assert other.exchange(code).status == 403
    assert other.exchange("a" * 43).status == 403
    assert other.exchange("").status == 403
    assert other.ask("/overview", TYPED).status == 401
    assert stranger.exchange(stranger.code(), next="//elsewhere.example/").headers["location"] == "/"


@pytest.mark.slow
def test_a_code_is_written_nowhere(served: ServedBoard, opened: ServedBoard) -> None:
    """No log, no file of the state, no list of processes; what is kept of it is its owner's alone."""
    code = opened.code()
    assert ServedBoard(served.port, served.config, served.output, served.pid).exchange(code).status == 303
    pending = opened.code()
    state = served.config.with_name("state")
    for path in state.rglob("*"):
        if path.is_file() and not path.name.endswith(".lock"):
            kept = path.read_bytes()
            assert code.encode() not in kept, path
            assert pending.encode() not in kept, path
    assert {path.stat().st_mode & 0o777 for path in state.glob("board*")} == {0o600}
    assert not LINK.search(served.printed())  # its output is a file, which is a log
    assert code not in Path(f"/proc/{served.pid}/cmdline").read_text()


@guarantee(42)
@pytest.mark.slow
@pytest.mark.parametrize("place", ["terminal", "pipe"])
def test_a_board_shows_its_link_to_a_terminal_alone(tmp_path: Path, place: str) -> None:
    """Whoever holds a pipe keeps what comes out of it, as what runs containers does."""
    config = tmp_path / "m365watch.yaml"
    config.write_text(NOTHING_COLLECTED)
    config.chmod(0o600)
    ours, theirs = os.openpty() if place == "terminal" else os.pipe()
    said = ""
    with (
        kept_port() as port,
        subprocess.Popen(
            [*COMMAND, "board", "--config", str(config), "--listen", f"127.0.0.1:{port}"],
            stdout=theirs,
            stderr=theirs,
        ) as process,
        suppress(OSError),  # a terminal that nobody has open any more
    ):
        os.close(theirs)
        too_late = threading.Timer(PATIENCE_S, process.terminate)
        too_late.start()
        while part := os.read(ours, 65_536).decode():
            said += part
            if LINK.search(said) or "m365watch board link" in said:
                process.terminate()
    os.close(ours)
    too_late.cancel()

    assert (LINK.search(said) is not None) == (place == "terminal"), said
    assert ("m365watch board link" in said) == (place == "pipe"), said


@pytest.mark.slow
def test_no_link_is_made_where_people_sign_in(config: Path) -> None:
    """It would let somebody in whom nobody named; the error says what to do."""
    settings = json.loads(config.read_text()) | {"board": {"sign_in": True}}
    strict = config.with_name("strict.json")
    strict.write_text(json.dumps(settings))
    strict.chmod(0o600)

    done = run("board", "link", "--config", str(strict))

    assert done.returncode == 1
    assert "/sign-in" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@guarantee(42)
@pytest.mark.slow
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_loads_no_more_than_the_shell_of_a_page(opened: ServedBoard, site: str) -> None:
    """A link in a mail works; panels, the API, exports and whatever a page of theirs embeds do not."""
    link = FROM_ELSEWHERE | {"sec-fetch-site": site}
    within = WITHIN_ELSEWHERE | {"sec-fetch-site": site}

    assert opened.ask("/overview", link).status == 200
    assert opened.ask("/alert?alert=nothing", link).status == 200
    assert opened.ask("/", link).status == 303
    for path in (*SHOWS[1:], "/metrics", "/live", "/narrow?page=overview", "/search/complete?q=a&at=1"):
        assert opened.ask(path, link).status == 403, path
        assert opened.ask(path, within).status == 403, path
    for path in ("/overview", "/sql", "/search?q=a"):
        assert opened.ask(path, within).status == 403, path
        assert opened.ask(path, link | {"sec-fetch-dest": "iframe"}).status == 403, path
        assert opened.ask(path, link, method="POST").status == 403, path


@pytest.mark.slow
def test_a_request_that_says_nothing_of_its_site_needs_a_token(opened: ServedBoard) -> None:
    """A cookie counts from browsers alone, which say where a request comes from."""
    for path in SHOWS:
        assert opened.ask(path).status == 401, path
    done = run(*("board", "token", "create", "scripts", "--config", str(opened.config)))
    token = {"authorization": f"Bearer {done.stdout.strip()}"}

    assert opened.ask("/api/v1/overview/figures", token).status == 200
    assert opened.ask("/api/v1/overview/figures", token | WITHIN_ELSEWHERE).status == 403


@guarantee(42)
@pytest.mark.slow
def test_sql_is_asked_by_post_alone(opened: ServedBoard) -> None:
    """A link with SQL in it fills the editor; nothing runs by it."""
    sql = quote("SELECT 4711 * 3 AS product")
    for path in ("/panel/sql/answer", "/export/sql/answer.csv", "/api/v1/sql/answer", "/sql"):
        reply = opened.ask(f"{path}?sql={sql}", OWN_PAGE)
        assert "14133" not in reply.text, path
        assert reply.status == (200 if path == "/sql" else 405), path
    assert "4711 * 3" in opened.ask(f"/sql?sql={sql}", TYPED).text

    form = OWN_PAGE | {"content-type": "application/x-www-form-urlencoded"}
    body = urlencode({"sql": "SELECT 4711 * 3 AS product"})
    assert opened.ask("/panel/sql/answer", form, method="POST", body=body).status == 403
    answer = opened.ask("/panel/sql/answer", form | opened.csrf(), method="POST", body=body)
    assert (answer.status, "14133" in answer.text) == (200, True)


@pytest.mark.slow
def test_an_export_holds_no_formula_behind_a_sign_that_nobody_sees(opened: ServedBoard) -> None:
    """A spreadsheet leaves out U+FEFF, and would calculate what comes next."""
    form = OWN_PAGE | {"content-type": "application/x-www-form-urlencoded"} | opened.csrf()
    body = urlencode({"sql": "SELECT '\ufeff=1+1' AS plain"})
    answer = opened.ask("/export/sql/answer.csv", form, method="POST", body=body)

    assert answer.text.splitlines() == ["plain", "'\ufeff=1+1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT sleep_ms({SLOW_S * 1000:.0f})",
        f'SELECT main."Sleep_MS"({SLOW_S * 1000:.0f})',
        f"SELECT pg_sleep({SLOW_S:.0f})",
        f"SUMMARIZE SELECT sleep_ms({SLOW_S * 1000:.0f})",
        f"FROM query('SELECT sl' || 'eep_ms({SLOW_S * 1000:.0f})')",
        "SELECT uuid_extract_timestamp(uuidv7())",
    ],
)
def test_sql_neither_waits_nor_reads_a_clock_that_runs(config: Path, sql: str) -> None:
    """What a record says is told by no time that a question takes at will."""
    done = run("query", "--config", str(config), sql)

    assert done.returncode != 0
    assert "is not allowed" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
