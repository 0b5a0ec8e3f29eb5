"""`m365watch board user`: who may sign in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m365watch.board.access.local_users import Users
from m365watch.cli.program import app

PASSWORD = "four plain words here\n"
TENANT = "22222222-2222-4222-8222-222222222222"


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.delenv("CONFIG_FILE", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose secret this command does without."""
    keys = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "${NOT_THERE}"}
    document = {"inputs": {"office365": {"type": "office365", "credentials": keys}}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def call(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["board", "user", *map(str, arguments)], input=typed)


def test_users_are_added_changed_listed_and_removed(config: Path) -> None:
    """What is listed is what the board goes by."""
    rest = ("--config", config)
    add = call("add", "ann", "--role", "analyst", "--password-stdin", *rest, typed=PASSWORD)
    again = call("add", "Ann", "--password-stdin", *rest, typed=PASSWORD)
    change = call("change", "ann", "--tenant", TENANT.upper(), "--no-contents", *rest)
    listed = call("list", "--json", *rest)
    shown = call("list", *rest)
    before = Users(config.parent / "state").find("ann")
    password = call("password", "ann", "--password-stdin", *rest, typed="other plain words here\n")
    after = Users(config.parent / "state").find("ann")
    remove = call("remove", "ANN", *rest)

    assert [add.exit_code, again.exit_code, change.exit_code] == [0, 1, 0]
    assert [listed.exit_code, password.exit_code, remove.exit_code] == [0, 0, 0]
    expected = {"name": "ann", "role": "analyst", "tenants": [TENANT], "contents": False}
    assert json.loads(listed.stdout) == {"users": [expected]}
    assert TENANT in shown.stdout
    assert before is not None
    assert after is not None
    assert before.hash != after.hash
    assert before.stamp != after.stamp
    assert json.loads(call("list", "--json", *rest).stdout) == {"users": []}


@pytest.mark.parametrize(
    ("arguments", "typed", "code"),
    [
        (("add", "a b", "--password-stdin"), PASSWORD, 2),
        (("add", "ann", "--password-stdin"), "short\n", 1),
        (("add", "ann"), "", 1),
        (("add", "ann", "--tenant", "contoso.com", "--password-stdin"), PASSWORD, 2),
        (("add", "ann", "--tenant", f"{TENANT[:-1]}3", "--password-stdin"), PASSWORD, 2),
        (("add", "ann", "--role", "king", "--password-stdin"), PASSWORD, 2),
        (("remove", "zoe"), "", 1),
        (("change", "zoe", "--role", "admin"), "", 1),
        (("password", "zoe", "--password-stdin"), PASSWORD, 1),
    ],
)
def test_what_will_not_do_changes_nothing(
    config: Path, arguments: tuple[str, ...], typed: str, code: int
) -> None:
    """A wrong name, password, tenant or role is refused before anything is written."""
    done = call(*arguments, "--config", config, typed=typed)

    assert done.exit_code == code
    assert not (config.parent / "state").exists()
