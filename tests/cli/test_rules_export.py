"""`m365watch rules export`: the rules for another product, and a line for each that it cannot have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.detection.rules.rule_library import load_library


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.delenv("CONFIG_FILE", raising=False)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rules", "export", *map(str, arguments)])


def test_a_rule_is_printed_as_a_query_below_its_words() -> None:
    """Comments say what the alert is, and standard output is nothing but LINQ."""
    done = call("--to", "devo", "--rule", "B07")

    assert done.exit_code == 0
    assert done.stdout.startswith("// m365watch B07 Mail connector created or changed\n")
    assert "\nfrom cloud.office365.management.exchange\nwhere " in done.stdout
    assert done.stderr.strip() == "1 rule exported"


def test_a_folder_gets_a_query_and_a_definition_for_each_alert(tmp_path: Path) -> None:
    """What the API takes is in the .json, and a second export replaces the first."""
    for _ in range(2):
        done = call("--to", "devo", "--pack", "devo", "--out", tmp_path / "out")
        assert done.exit_code == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    body = json.loads((tmp_path / "out" / "devo_password_changed.json").read_text(encoding="utf-8"))

    assert {"devo_password_changed.json", "devo_password_changed.linq"} <= set(written)
    assert body["alertCorrelationContext"]["correlationTrigger"] == {"kind": "each"}
    assert "INDICATOR" in done.stderr
    assert "the lists of indicators are not at Devo" in done.stderr


def test_json_has_definitions_and_reasons() -> None:
    """One document for programs: what was exported, and what was not, with the reason."""
    done = call("--to", "devo", "--rule", "B07", "--rule", "I05", "--json")
    answer = json.loads(done.stdout)

    assert {one["detection"] for one in answer["not_exported"]} == {"I05"}
    assert all(one["reason"] for one in answer["not_exported"])
    assert {one["kind"] for one in answer["rules"]} == {"each", "rolling"}
    assert done.stderr == ""


def test_sigma_is_written_with_the_rules_that_it_joins(tmp_path: Path) -> None:
    """A correlation's files are all that another product needs; on standard output they are one YAML."""
    done = call("--to", "sigma", "--rule", "I01", "--output", tmp_path / "out")
    printed = call("--to", "sigma", "--rule", "I01")
    documents = list(yaml.safe_load_all(printed.stdout))

    assert done.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "i01_brute_force.yml",
        "wrong_password.yml",
    ]
    assert [one["name"] for one in documents] == ["wrong_password", "i01_brute_force"]
    assert load_library([tmp_path / "out"]).mistakes == ()


def test_what_the_organisation_is_goes_into_the_queries(tmp_path: Path) -> None:
    """Accepted domains of the configuration stand in the query that tells mail outside from mail inside."""
    keys = {"tenant_id": "22222222-2222-2222-2222-222222222222", "client_secret": "not-a-real-one"}
    document = {
        "inputs": {"office365": {"credentials": {**keys, "client_id": keys["tenant_id"]}}},
        "detections": {"accepted_domains": ["contoso.example"]},
    }
    (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
    done = call("--to", "devo", "--rule", "B01", "--config", tmp_path / "config.json")

    assert done.exit_code == 0
    assert r"contoso\\.example" in done.stdout


@pytest.mark.parametrize(
    ("tags", "table", "unread"),
    [
        (["my.app.m365.mail"], "my.app.m365.mail", ""),
        (["my.app.m365.{workload}"], "my.app.m365.exchange", ""),
        (["my.app.m365.{operation}"], "cloud.office365.management.exchange", "my.app.m365.{operation}"),
        (["my.app.m365.mail", None], "cloud.office365.management.exchange", "my.app.m365.mail"),
    ],
)
def test_queries_read_the_table_that_an_override_tag_names(
    tmp_path: Path, tags: list[str | None], table: str, unread: str
) -> None:
    """A table that the query cannot read is named in the alert's description, as records that it misses."""
    inputs = {
        f"tenant{number}": {
            "type": "office365",
            "credentials": {
                "tenant_id": f"{number:08}-2222-2222-2222-222222222222",
                "client_id": "22222222-2222-2222-2222-222222222222",
                "client_secret": "not-a-real-one",
            },
            "services": {"exchange": {"override_tag": tag} if tag else {}},
        }
        for number, tag in enumerate(tags)
    }
    (tmp_path / "config.json").write_text(json.dumps({"inputs": inputs}), encoding="utf-8")

    done = call("--to", "devo", "--rule", "B07", "--config", tmp_path / "config.json", "--json")

    (rule,) = json.loads(done.stdout)["rules"]
    text = json.dumps(rule)
    assert f"from {table}\\nwhere" in text
    assert ("that `override_tag` sends to" in text) is bool(unread)
    assert unread in text


def test_a_query_over_all_tables_names_the_ones_that_it_does_not_read(tmp_path: Path) -> None:
    keys = {"tenant_id": "22222222-2222-2222-2222-222222222222", "client_secret": "not-a-real-one"}
    services = {"exchange": {}, "sharepoint": {"override_tag": "my.app.m365.files"}}
    office365 = {"credentials": {**keys, "client_id": keys["tenant_id"]}, "services": services}
    (tmp_path / "config.json").write_text(json.dumps({"inputs": {"office365": office365}}), encoding="utf-8")

    done = call("--to", "devo", "--pack", "devo", "--config", tmp_path / "config.json", "--json")

    rules = json.loads(done.stdout)["rules"]
    over_all = [one for one in map(json.dumps, rules) if "from cloud.office365.management\\n" in one]
    assert over_all
    assert all(
        "records of sharepoint that `override_tag` sends to my.app.m365.files" in one for one in over_all
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--to", "splunk"], 2, "there is no splunk"),
        (["--to", "devo", "--rule", "nothing"], 2, "there is no rule nothing"),
        (["--to", "devo", "--pack", "nothing"], 2, "there is no pack nothing"),
        (["--to", "devo", "--rule", "wrong_password"], 2, "only serves other rules"),
        (["--to", "devo", "--rule", "C01"], 1, "not exported: C01"),
    ],
)
def test_what_cannot_be_had_is_told_with_its_code(arguments: list[str], code: int, told: str) -> None:
    """2 for what is not there, 1 where nothing of what was asked could be exported."""
    done = call(*arguments)

    assert (done.exit_code, told in done.stderr) == (code, True)


def test_the_exchange_board_comes_along(tmp_path: Path) -> None:
    """A query for each panel: as files, on standard output, and for programs."""
    done = call("--to", "devo", "--rule", "B07", "--boards", "--output", tmp_path / "out")
    printed = call("--to", "devo", "--rule", "B07", "--boards")
    answer = json.loads(call("--to", "devo", "--rule", "B07", "--boards", "--json").stdout)
    panels = [one["name"] for one in answer["boards"]["exchange"]]

    assert done.exit_code == 0
    assert f"1 rule and {len(panels)} panels exported to" in done.stderr
    assert {f"exchange_{name}.linq" for name in panels} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert (
        "// board exchange: Inbox rules (table)\nfrom cloud.office365.management.exchange\n" in printed.stdout
    )
    assert call("--to", "sigma", "--boards").exit_code == 2
