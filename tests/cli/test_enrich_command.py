"""`m365watch enrich`, and what `rules` and `check` say of files that are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m365watch.cli.program import app


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.delenv("CONFIG_FILE", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a list of exits."""
    (tmp_path / "tor.txt").write_text("203.0.113.7\n", encoding="utf-8")
    keys = {"tenant_id": "22222222-2222-2222-2222-222222222222", "client_secret": "not-a-real-one"}
    document = {
        "inputs": {"office365": {"credentials": {**keys, "client_id": keys["tenant_id"]}}},
        "detections": {"enrich": {"tor_lists": "tor.txt", "vips": ["boss@contoso.example"]}},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_what_is_known_is_shown_with_its_file(config: Path) -> None:
    """The words, the name that rules have for it, and the file."""
    done = call("enrich", "203.0.113.7", "--config", config)

    assert done.exit_code == 0
    assert "exit of Tor" in done.stdout
    assert "m365.tor" in done.stdout


def test_json_has_the_facts(config: Path) -> None:
    """For programs; a user as well as an address."""
    answer = json.loads(call("enrich", "Boss@contoso.example", "--config", config, "--json").stdout)

    assert (answer["kind"], answer["value"]) == ("user", "boss@contoso.example")
    assert [one["field"] for one in answer["known"]] == ["m365.vip"]


def test_nothing_known_is_exit_code_1(config: Path) -> None:
    """And a list that cannot be read is told, not passed over."""
    (config.parent / "tor.txt").write_bytes(b"")
    done = call("enrich", "203.0.113.7", "--config", config)

    assert (done.exit_code, "nothing is known of it" in done.stdout) == (1, True)


def test_rules_say_what_they_lack(config: Path) -> None:
    """The list names the rules by the key that is missing; one rule names its own."""
    listed = call("rules", "list", "--config", config)
    shown = json.loads(call("rules", "show", "S01", "--config", config, "--json").stdout)["rules"]

    assert "without detections.enrich.databases these find less or nothing: " in listed.stdout
    assert "detections.enrich.tor_lists" not in listed.stdout
    assert {one["name"]: one["lacks"] for one in shown}["s01_link_used_through_tor"] == []
    assert {one["name"]: one["lacks"] for one in shown}["s01_link_used_from_new_country"] == ["databases"]


def test_a_file_that_cannot_be_read_is_named_and_counts_as_none(config: Path) -> None:
    """By whatever looks at rules: they would find nothing without a word."""
    document = json.loads(config.read_text())
    broken = config.parent / "broken.mmdb"
    broken.write_bytes(b"no table at all")
    document["detections"] = {"enrich": {"databases": "broken.mmdb", "tor_lists": "none.txt"}}
    document["outputs"] = {"lake": {"type": "lake", "config": {"directory": "lake"}}}
    config.write_text(json.dumps(document))
    listed = call("rules", "list", "--config", config)
    hunted = call("hunt", "I05", "--config", config)

    for done in (listed, hunted):
        assert f"warning: {broken}: is no table of addresses in MaxMind's format" in done.stderr
        assert (
            f"warning: {config.parent / 'none.txt'}: there is no such file; rules go without it"
            in done.stderr
        )
    assert listed.exit_code == 0
    assert "without detections.enrich.databases these find less or nothing: " in listed.stdout
    assert "without detections.enrich.tor_lists these find less or nothing: " in listed.stdout


def test_a_broken_exception_is_named_by_a_hunt(config: Path) -> None:
    """Whoever looks back wonders else why the exception hides nothing."""
    document = json.loads(config.read_text())
    (config.parent / "exceptions.yml").write_text("exceptions: [{rule: B08}]")
    document["detections"] = {"exceptions_file": "exceptions.yml"}
    document["outputs"] = {"lake": {"type": "lake", "config": {"directory": "lake"}}}
    config.write_text(json.dumps(document))

    assert (
        "exceptions.0.reason: is missing; the exception does not hold"
        in call("hunt", "I05", "--config", config).stderr
    )
