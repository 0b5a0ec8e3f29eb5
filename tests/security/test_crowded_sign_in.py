"""Nobody is kept from signing in by others' guesses. The addresses are those of loopback."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
from patience import PATIENCE_S

from served_board import OWN_PAGE, PASSWORD, TYPED, ServedBoard, add_user, board_of, collected_day

pytestmark = pytest.mark.slow

OF_ANN, OF_SOMEBODY = "127.0.0.7", "127.0.0.66"


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board to which ann and vera sign in."""
    file = collected_day(tmp_path, tmp_path_factory)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"board": {"sign_in": True}}))
    for name in ("ann", "vera"):
        add_user(file, name)
    return file


def sign_in(board: ServedBoard, name: str, password: str, *, address: str) -> int:
    """The status of the answer to a name and a password from an address."""

    def ask(method: str, body: str | None, headers: dict[str, str]) -> tuple[int, str, str]:
        line = HTTPConnection("127.0.0.1", board.port, timeout=PATIENCE_S, source_address=(address, 0))
        line.request(method, "/sign-in", body, headers)
        answer = line.getresponse()
        told = answer.status, answer.getheader("set-cookie", ""), answer.read().decode()
        line.close()
        return told

    _, cookie, page = ask("GET", None, TYPED)
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found
    fields = {"name": name, "password": password, "next": "/", "token": found[1]}
    headers = OWN_PAGE | {
        "cookie": cookie.partition(";")[0],
        "content-type": "application/x-www-form-urlencoded",
    }
    return ask("POST", urlencode(fields), headers)[0]


def test_one_address_locks_no_name_for_others(config: Path) -> None:
    """Its own attempts are refused before the name is locked."""
    with board_of(config) as board:
        guesses = [sign_in(board, "ann", "guess", address=OF_SOMEBODY) for _ in range(12)]

        assert guesses[-1] == 429
        assert sign_in(board, "ann", PASSWORD, address=OF_ANN) == 303


def test_an_address_of_late_outlives_a_restart(config: Path) -> None:
    """Where somebody signed in lately, neither guesses at their name nor at others' keep them out."""
    with board_of(config) as board:
        assert sign_in(board, "ann", PASSWORD, address=OF_ANN) == 303
    with board_of(config) as board:
        guesses = [sign_in(board, f"guess{number}", "guess", address=OF_ANN) for number in range(32)]

        assert guesses[-1] == 429
        assert sign_in(board, "ann", PASSWORD, address=OF_ANN) == 303
