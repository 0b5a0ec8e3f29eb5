"""Tokens of the API: made, kept as digests, believed while they are in force, and for the API alone."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee
from starlette.requests import HTTPConnection
from typer.testing import CliRunner, Result

from asking import OpenGate
from m365watch.board.access.api_tokens import ApiTokens, TokenGate, TokenWanted
from m365watch.board.access.roles import Role, Scope
from m365watch.board.api.api_routes import AT_ONCE, PER_SECOND, TOKENS_MAX, Pace
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NeedsOperator
from m365watch_testing.clock import FakeClock

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


def wanted(name: str = "soar", *, days: int = 1, tenants: tuple[str, ...] | None = None) -> TokenWanted:
    return TokenWanted(name, (Scope.READ,), tenants, "ann", NOW + timedelta(days=days))


@guarantee(42)
def test_only_a_digest_is_kept_and_only_for_its_owner(tmp_path: Path) -> None:
    """Whoever reads the file has no token."""
    file = ApiTokens(tmp_path)
    token, kept = file.create(wanted(), NOW)

    written = b"".join(one.read_bytes() for one in tmp_path.glob("board.sqlite*"))
    # What is random may have an underscore in it as well.
    assert token.split("_", 2)[2].encode() not in written
    assert kept.digest.encode() in written
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.find(token, NOW) == kept


@guarantee(42)
def test_a_token_is_believed_until_it_expires_or_is_revoked(tmp_path: Path) -> None:
    """Also by somebody who has read the file before."""
    reader, writer = ApiTokens(tmp_path), ApiTokens(tmp_path)
    short, _ = writer.create(wanted("short"), NOW)
    long, _ = writer.create(wanted("long", days=9), NOW)

    assert [reader.find(one, NOW) is not None for one in (short, long)] == [True, True]
    assert reader.find(short, NOW + timedelta(days=1)) is None
    writer.revoke("long")
    assert reader.find(long, NOW) is None


@guarantee(42)
def test_no_token_outlives_its_file(tmp_path: Path) -> None:
    """Who has read one that was removed, or set aside, goes by the next one."""
    file = ApiTokens(tmp_path)
    token, _ = file.create(wanted(), NOW)
    assert file.find(token, NOW) is not None

    file.path.unlink()

    assert file.find(token, NOW) is None
    other, _ = ApiTokens(tmp_path).create(wanted(), NOW)
    assert [file.find(one, NOW) is not None for one in (token, other)] == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
        lambda token: token.upper(),
        lambda token: token + "\n",
        lambda token: "m365w_000000000000_" + token.rpartition("_")[2],
        lambda token: "",
        lambda token: "é" * 62,
    ],
)
def test_what_is_nearly_a_token_is_none(tmp_path: Path, change: object) -> None:
    """Another secret, another id, another form."""
    assert callable(change)
    file = ApiTokens(tmp_path)
    token, _ = file.create(wanted(), NOW)

    assert file.find(change(token), NOW) is None


def test_a_name_is_there_once(tmp_path: Path) -> None:
    """Until it has expired: then its successor may have the name."""
    file = ApiTokens(tmp_path)
    file.create(wanted(), NOW)

    with pytest.raises(NeedsOperator, match="soar"):
        file.create(wanted(), NOW)
    file.create(wanted(days=9), NOW + timedelta(days=2))
    assert [one.name for one in file.kept()] == ["soar"]
    with pytest.raises(NeedsOperator, match="nobody"):
        file.revoke("nobody")


def connection(path: str, authorization: str = "") -> HTTPConnection:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    return HTTPConnection({"type": "http", "path": path, "headers": headers})


@guarantee(42)
def test_a_token_is_good_for_the_api_alone(tmp_path: Path) -> None:
    """On a page it counts for nothing; a wrong one is nobody, even where everybody is let in."""
    file = ApiTokens(tmp_path)
    token, kept = file.create(wanted(tenants=("t1",)), NOW)
    gate = TokenGate(file, clock=FakeClock(NOW), otherwise=OpenGate())

    access = gate.access_of(connection("/api/v1/alerts", f"bearer {token}"))
    page = gate.access_of(connection("/overview", f"Bearer {token}"))

    assert access is not None
    assert (access.name, access.role, access.tenants) == ("token soar", Role.VIEWER, frozenset({"t1"}))
    assert (access.token, access.allows(Scope.READ), access.allows(Scope.METRICS)) == (kept.id, True, False)
    assert page is not None
    assert not page.is_token
    assert gate.access_of(connection("/api/v1/alerts", "Bearer wrong")) is None
    assert gate.access_of(connection("/metrics")) == OpenGate().access_of(connection("/metrics"))


def test_a_file_that_is_none_lets_nobody_in(tmp_path: Path) -> None:
    """A damaged file is no reason to believe anybody."""
    file = ApiTokens(tmp_path)
    token, _ = file.create(wanted(), NOW)
    file.path.write_text("{")
    gate = TokenGate(ApiTokens(tmp_path), clock=FakeClock(NOW), otherwise=OpenGate())

    assert gate.access_of(connection("/api/v1/alerts", f"Bearer {token}")) is None


def test_a_bucket_fills_up_again_and_few_are_kept() -> None:
    """So many at once, then so many a second; a thousand buckets at most."""
    clock = FakeClock(NOW)
    pace = Pace(clock)

    assert [pace.take("a") for _ in range(AT_ONCE)] == [0] * AT_ONCE
    assert pace.take("a") == 1
    asyncio.run(clock.advance(1))
    assert sum(pace.take("a") == 0 for _ in range(AT_ONCE)) == PER_SECOND
    for number in range(TOKENS_MAX + 10):
        pace.take(str(number))
    assert len(pace) == TOKENS_MAX


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keys = {"tenant_id": "22222222-2222-2222-2222-222222222222", "client_secret": "not-a-real-one"}
    document = {
        "globals": {
            "persistence": {"type": "filesystem", "config": {"directory_name": str(tmp_path / "state")}}
        },
        "inputs": {"office365": {"credentials": {**keys, "client_id": keys["tenant_id"]}}},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["board", "token", *map(str, arguments)])


def test_the_command_makes_lists_and_revokes(config: Path) -> None:
    """The token alone on stdout, once; then all but the token."""
    made = call("create", "soar", "-s", "read", "-s", "alerts:write", "--days", "30", "--config", config)
    token = made.stdout.strip()
    listed = json.loads(call("list", "--config", config, "--json").stdout)
    table = call("list", "--config", config).stdout
    gone = call("revoke", "soar", "--config", config)

    assert made.exit_code == 0
    assert ApiTokens(config.parent / "state").find(token, SystemClock().now()) is None
    assert [(one["name"], one["scopes"], one["tenants"]) for one in listed["tokens"]] == [
        ("soar", ["read", "alerts:write"], None)
    ]
    assert "soar" in table
    assert token not in table + json.dumps(listed)
    assert gone.stdout.startswith("revoked: soar")
    assert call("revoke", "soar", "--config", config).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [("", ""), ("a", "--tenant=nobody"), ("a", "--days=0"), ("a", "--scope=all"), ("a\nb", "-sread")],
)
def test_what_cannot_be_meant_makes_no_token(config: Path, arguments: tuple[str, str]) -> None:
    """A tenant that is not collected, no days, no such scope, a name of two lines."""
    done = call("create", *[one for one in arguments if one or one == arguments[0]], "--config", config)

    assert done.exit_code == 2
    assert not (config.parent / "state").exists()
