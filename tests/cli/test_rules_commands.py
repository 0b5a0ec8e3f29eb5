"""`m365watch rules`: what is looked for, and whether a rule of one's own is right."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.cli.rules.rules_view import MISTAKES_SHOWN_MAX

RULE = """\
title: Mail sent by a robot
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000009
status: test
logsource: {product: m365, service: exchange}
detection: {s: {Operation: Send, UserId|startswith: robot}, condition: s}
level: high
tags: [attack.t1114]
"""
GUID = "41463f53-8812-40f4-890f-865bf6e35190"
CASES = """\
rule: Mail sent by a robot
hits:
  - name: a robot sends
    records: [{Operation: Send, UserId: robot@contoso.example, Workload: Exchange, RecordType: 2}]
    expect: {user: robot@contoso.example, severity: high}
near_misses:
  - name: a person sends
    records: [{Operation: Send, UserId: ann@contoso.example, Workload: Exchange, RecordType: 2}]
"""


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CONFIG_FILE", raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a rule of one's own, its cases, and a configuration that names the rule alone."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "robot.yml").write_text(RULE, encoding="utf-8")
    (tmp_path / "cases.yml").write_text(CASES, encoding="utf-8")
    keys = {"tenant_id": "22222222-2222-2222-2222-222222222222", "client_secret": "not-a-real-one"}
    credentials = {**keys, "client_id": keys["tenant_id"]}
    document = {
        "inputs": {"office365": {"credentials": credentials}},
        "detections": {"packs": [], "rules_directories": "rules"},
    }
    (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rules", *map(str, arguments)])


def told(done: Result) -> str:
    return " ".join(done.stderr.replace("│", " ").split())


def answer(*arguments: object) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_without_a_configuration_the_packs_are_listed() -> None:
    """By number, title or technique; what only serves others is left out unless all are asked for."""
    every = answer("list", "--all")["rules"]
    forwarding = answer("list", "t1114.003")["rules"]

    assert len(every) > 100
    assert {True, False} == {rule["makes_alerts"] for rule in every}
    assert "B01" in {rule["detection"] for rule in forwarding}
    assert all("T1114.003" in rule["techniques"] for rule in forwarding)
    assert answer("list")["mistakes"] == []


def test_the_list_and_a_rule_fit_into_80_columns(place: Path) -> None:
    """And end with where to go on."""
    listed = call("list").stdout
    shown = call("show", "SecOpsSuspiciousInboxForwardingO365").stdout

    assert max(map(len, [*listed.splitlines(), *shown.splitlines()])) <= 80
    assert "`m365watch rules show RULE` tells more" in listed
    assert "Inbox rule sends mail outside" in shown
    assert "How to contain it" in shown
    assert "False alarms" in shown


def test_a_configuration_says_which_rules_are_in_force(place: Path) -> None:
    """Those of its directories in place of the packs."""
    [rule] = answer("list", "mail", "--config", place / "config.json")["rules"]

    assert (rule["title"], rule["techniques"]) == ("Mail sent by a robot", ["T1114"])


def test_a_rule_is_shown_as_the_list_has_it() -> None:
    """In a document that says by which schema it is written."""
    shown = answer("show", "B08")

    assert shown["schema"] == 1
    assert shown["rules"] == [one for one in answer("list")["rules"] if one["detection"] == "B08"]


def test_a_rule_that_is_not_there_is_told() -> None:
    """With where all are named."""
    done = call("show", "B99")

    assert done.exit_code == 2
    assert "there is no rule B99" in done.stderr


def test_a_correlation_says_what_it_waits_for_and_how_long() -> None:
    """The titles of the rules that it joins, the time within, and by what."""
    shown = " ".join(call("show", "I03").stdout.split())

    assert "temporal_ordered within 30 min" in shown
    assert "joins Repeated failed passwords from one provider (ASN);" in shown
    assert "grouped by" in shown


@pytest.mark.slow
def test_every_mistake_of_a_rule_has_its_line(place: Path) -> None:
    """With the file, the rule and the key; the exit code says so to a pipeline."""
    assert call("validate", place / "rules").exit_code == 0
    (place / "rules" / "bad.yml").write_text(
        RULE.replace("-000000000009", "-000000000008") + "m365watch: {quite: 24h, risk: 900}\n",
        encoding="utf-8",
    )

    done = call("validate", place / "rules")
    head = f"rules/bad.yml:{RULE.count(chr(10)) + 1} (Mail sent by a robot): m365watch"

    assert done.exit_code == 1
    risk, quite, count = done.stdout.splitlines()
    assert risk == f"{head}.risk: is too large; give at most 100"
    assert quite.startswith(f"{head}.quite: is no known key; there are aliases, ")
    assert count == "1 rule will do; 2 mistakes"


def test_mistakes_stand_file_by_file(place: Path) -> None:
    """Those that only show once all files are read too: they came after all others."""
    other = RULE.replace("Mail sent", "Mail again sent")
    for name, text in (
        ("a.yml", RULE.replace("-000000000009", "-000000000008").replace("level: high", "level: huge")),
        ("nested/c.yml", other),
        ("s.yml", other.replace("title", "tilte")),
        ("t.yml", other),
    ):
        path = place / "rules" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    told = call("validate", place / "rules").stdout.splitlines()

    files = [line.partition(":")[0] for line in told[:-1]]
    assert files == sorted(files)
    assert {*files} == {"rules/a.yml", "rules/robot.yml", "rules/s.yml", "rules/t.yml"}


def test_a_file_of_rules_that_is_empty_is_a_mistake(place: Path) -> None:
    """As a full disk leaves it; what has comments alone is meant."""
    (place / "rules" / "lost.yml").write_text(" \n", encoding="utf-8")
    (place / "rules" / "none.yml").write_text("# none yet\n", encoding="utf-8")

    assert call("validate", place / "rules").stdout.splitlines() == [
        "rules/lost.yml: is empty; if that is meant, say so in a line that begins with #",
        "1 rule will do; 1 mistake",
    ]


@pytest.mark.parametrize("written", ["# gr\xfc\xdfe\n", "# a bell\x07\n"])
def test_a_byte_that_no_text_has_is_told_with_its_line(place: Path, written: str) -> None:
    """As an editor leaves it that saves umlauts in a way of its own."""
    (place / "rules" / "bad.yml").write_bytes(RULE.encode() + written.encode("latin-1"))
    (place / "cases.yml").write_bytes(CASES.encode() + written.encode("latin-1"))
    line = RULE.count("\n") + 1
    why = "a byte that is no UTF-8: save the file as UTF-8" if "gr" in written else "a control character"

    validated = call("validate", place / "rules").stdout
    assert validated.startswith(f"rules/bad.yml:{line}: is no YAML: {why}")
    assert f"is no YAML: line {CASES.count(chr(10)) + 1}: {why}" in told(call("test", place / "cases.yml"))


def test_nothing_but_the_mistakes_is_written(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What RE2 would say of a pattern by itself came between, without a file and twice."""
    bad = RULE.replace("UserId|startswith: robot", "UserId|re: ['a(b', '(?<=x)y']")
    (place / "rules" / "bad.yml").write_text(bad, encoding="utf-8")

    done = call("validate", place / "rules")

    assert done.exit_code == 1
    assert done.stdout.count("rules/bad.yml:5 (Mail sent by a robot): detection.s.UserId|re.") == 2
    assert "b'missing" not in done.stdout
    assert (done.stderr, capfd.readouterr().err) == ("", "")


def test_an_exception_that_excepts_nothing_is_a_mistake(place: Path) -> None:
    """A name that was misspelt would go unnoticed otherwise."""
    document = json.loads((place / "config.json").read_text(encoding="utf-8"))
    document["detections"]["exceptions_file"] = "exceptions.yml"
    (place / "config.json").write_text(json.dumps(document), encoding="utf-8")
    (place / "exceptions.yml").write_text("exceptions: [{rule: Mail by a robot, reason: x}]\n")

    done = call("validate", "--config", place / "config.json")

    assert done.exit_code == 1
    assert "exceptions.yml:1: there is no rule Mail by a robot: the exception excepts nothing" in done.stdout


def test_an_exception_for_the_risk_alert_is_none(place: Path) -> None:
    """It works; but for where risk is not added up."""
    document = json.loads((place / "config.json").read_text(encoding="utf-8"))
    document["detections"]["exceptions_file"] = "exceptions.yml"
    (place / "exceptions.yml").write_text("exceptions: [{rule: RISK, entity: {user: ann}, reason: x}]\n")

    def validate(points: int) -> Result:
        document["detections"]["risk_points"] = points
        (place / "config.json").write_text(json.dumps(document), encoding="utf-8")
        return call("validate", "--config", place / "config.json")

    assert (validate(50).stdout, validate(50).exit_code) == ("1 rule will do\n", 0)
    assert "there is no rule RISK: the exception excepts nothing" in validate(0).stdout


def test_the_rule_of_the_risk_alert_is_shown_by_the_number_that_alerts_have(place: Path) -> None:
    """With the points of the configuration; where risk is not added up, there is no such rule."""
    document = json.loads((place / "config.json").read_text(encoding="utf-8"))
    [rule] = answer("show", "RISK", "--config", place / "config.json")["rules"]
    document["detections"]["risk_points"] = 0
    (place / "config.json").write_text(json.dumps(document), encoding="utf-8")

    assert rule["title"] == "Risk score threshold exceeded for one user or entity"
    assert "Risk score threshold exceeded" in call("show", "risk").stdout
    assert "add up to 50 points" in " ".join(call("show", "RISK").stdout.split())
    off = call("show", "RISK", "--config", place / "config.json")
    assert off.exit_code == 2
    assert "detections.risk_points is 0, so that no rule adds up risk" in told(off)


def test_the_rule_of_the_risk_alert_is_listed_with_the_others(place: Path) -> None:
    """By its number, as `show` has it and as alerts name it; not where risk is not added up."""
    document = json.loads((place / "config.json").read_text(encoding="utf-8"))
    listed = answer("list", "--config", place / "config.json")["rules"]
    document["detections"]["risk_points"] = 0
    (place / "config.json").write_text(json.dumps(document), encoding="utf-8")
    off = answer("list", "--config", place / "config.json")["rules"]

    assert [rule["detection"] for rule in listed] == ["RISK", ""]
    assert listed[:1] == answer("show", "RISK")["rules"]
    assert (
        "RISK  high      Risk score threshold exceeded for one user or entity" in call("list", "RISK").stdout
    )
    assert [rule["title"] for rule in off] == ["Mail sent by a robot"]


def test_cases_may_claim_that_risk_adds_up(place: Path) -> None:
    """All rules count for it, as in a run."""
    robots = "robot, warden, sender"
    signs = [
        RULE.replace("000009", f"00001{place}").replace("robot", name).replace("high", "medium")
        + "m365watch: {risk: 30}\n"
        for place, name in enumerate(robots.split(", "))
    ]
    records = CASES.partition("records: ")[2].partition("\n")[0]
    condition = "detection: {s: {Operation: Send}, condition: s}"
    signs = [re.sub("detection: .*", condition, sign) for sign in signs]
    (place / "rules" / "robot.yml").write_text("---\n".join(signs), encoding="utf-8")
    text = f"rule: RISK\nhits: [{{name: three agree, records: {records}, expect: {{severity: high}}}}]\n"
    (place / "cases.yml").write_text(text, encoding="utf-8")

    done = call("test", place / "cases.yml", "--config", place / "config.json")

    assert "1 case, 0 not as claimed" in done.stdout


def test_the_rule_of_the_risk_alert_is_said_not_to_be_exported() -> None:
    """Other products have no points of risk: whoever moves the rules there is told."""
    done = call("export", "--to", "devo", "--rule", "RISK")

    assert done.exit_code == 1
    assert "not exported: RISK Risk score threshold exceeded for one user or entity: risk points" in told(
        done
    )


@pytest.mark.slow
def test_cases_say_whether_a_rule_does_as_it_claims(place: Path) -> None:
    """Exit code 0 where all hold; 1 and the reason where one does not."""
    good = call("test", place / "cases.yml", "--rules", place / "rules")
    (place / "cases.yml").write_text(CASES.replace("ann@", "robot2@"), encoding="utf-8")
    bad = call("test", place / "cases.yml", "--rules", place / "rules")

    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "2 cases, 0 not as claimed" in good.stdout
    assert "FAILS  near miss: a person sends" in bad.stdout
    assert "fires: " in bad.stdout
    assert "2 cases, 1 not as claimed" in bad.stdout


def test_cases_judge_the_rules_that_are_named_and_not_those_in_force(place: Path) -> None:
    """A copy that is being worked on, in a folder of the same name, beside the configuration's own."""
    edited = place / "edited" / "rules"
    shutil.copytree(place / "rules", edited)
    [file] = edited.iterdir()
    file.write_text(file.read_text(encoding="utf-8").replace(": robot", ": engine"), encoding="utf-8")
    config = place / "config.json"

    in_force = call("test", place / "cases.yml", "--config", config, "--rules", place / "rules")
    changed = call("test", place / "cases.yml", "--config", config, "--rules", edited)

    assert (in_force.exit_code, changed.exit_code) == (0, 1)
    assert "mistake" not in in_force.stdout


def test_what_is_hidden_in_a_folder_of_cases_is_no_case(place: Path) -> None:
    """A repository keeps its own settings beside them."""
    (place / "cases" / ".github").mkdir(parents=True)
    (place / "cases" / ".github" / "ci.yml").write_text("on: push\n", encoding="utf-8")
    (place / "cases" / "cases.yml").write_text(CASES, encoding="utf-8")

    assert call("test", place / "cases", "--rules", place / "rules").exit_code == 0


@pytest.mark.slow
def test_mistakes_of_other_rules_are_no_part_of_a_test(place: Path) -> None:
    """They are counted; where the rule of a case is not there, one of them may be why."""
    (place / "rules" / "other.yml").write_text(RULE.replace("level: high", "level: huge"), encoding="utf-8")
    good = call("test", place / "cases.yml", "--rules", place / "rules")
    (place / "cases.yml").write_text(CASES.replace("sent by a robot", "of another"), encoding="utf-8")
    lost = call("test", place / "cases.yml", "--rules", place / "rules")

    assert "level: 'huge'" not in good.stdout
    assert "1 mistake; `m365watch rules validate` names each" in good.stdout
    assert "level: 'huge' is not a valid Sigma rule level" in lost.stdout


def test_every_mistake_in_files_of_cases_has_its_line(place: Path) -> None:
    """Of all files, in their order, before any case is run: the first alone was named."""
    cases = place / "cases"
    (cases / "nested").mkdir(parents=True)
    (cases / "a.yml").write_text(
        "rule: A\nstrange: 1\nhits: [{records: [{}]}, {name: x, records: [{X: 1}]}, {name: y, records: [1]}]"
        "\nnear_misses: nope\n"
    )
    (cases / "b.yml").write_text(CASES, encoding="utf-8")
    (cases / "c.yml").write_text("hits: [{name: z, records: []}]\n")
    (cases / "nested" / "d.yml").write_text("rule: Q\n")

    done = call("test", cases, "--rules", place / "rules")

    keys = "detection, hits, near_misses, rule, settings"
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"error: {cases}/a.yml: has other keys than {keys}: strange",
        f"error: {cases}/a.yml: hits, case 1: has no name; give it one that says what it claims",
        f"error: {cases}/a.yml: case 'y' has no list of records",
        f"error: {cases}/a.yml: near_misses is no list of cases",
        f"error: {cases}/c.yml: names no rule: it needs the key detection or rule",
        f"error: {cases}/c.yml: case 'z' has no list of records",
        f"error: {cases}/nested/d.yml: has no cases of Q: give records under hits or near_misses",
    ]


def test_mistakes_of_rules_in_a_test_are_whole_and_counted(place: Path) -> None:
    """A line each, however narrow the terminal is; of many the first, and how many more there are."""
    for number in range(10, 22):
        text = RULE.replace("level: high", "level: as-high-as-can-be-and-then-a-bit").replace(
            "000009", "000010"
        )
        (place / "rules" / f"r{number}.yml").write_text(text, encoding="utf-8")
    (place / "cases.yml").write_text(CASES.replace("sent by a robot", "of another"), encoding="utf-8")

    shown = call("test", place / "cases.yml", "--rules", place / "rules").stdout.splitlines()
    told = [line for line in shown if line.startswith("rules/r")]
    counted = call("test", place / "cases.yml", "--rules", place / "rules", "--json")

    assert len(told) == MISTAKES_SHOWN_MAX
    assert all(line.endswith("low, medium, high or critical") for line in told)
    assert "2 more mistakes; `m365watch rules validate` names each" in shown
    assert len(json.loads(counted.stdout)["mistakes"]) == 12


def test_a_file_that_holds_no_cases_is_told(place: Path) -> None:
    """A folder of cases may hold nothing else."""
    done = call("test", place / "rules", "--rules", place / "rules")

    assert done.exit_code == 2
    assert "robot.yml" in done.stderr


def test_the_rule_of_a_file_of_cases_is_told_on_one_line(place: Path) -> None:
    """Found by the fuzzer: a name over several lines was told as it stood, in a mistake of one."""
    (place / "cases.yml").write_text('detection: "X\\n\\e[2Jerror: none\\n"\nhits: []\n', encoding="utf-8")
    done = call("test", place / "cases.yml", "--rules", place / "rules")

    assert done.exit_code == 2
    assert "has no cases of X [2Jerror: none: give records" in " ".join(done.stderr.split())
    assert "\x1b" not in done.stderr


def test_a_rule_s_name_that_yaml_ends_with_a_break_is_found(place: Path) -> None:
    """As a text after `|` has it."""
    text = CASES.replace("rule: Mail sent by a robot", "rule: |\n  Mail sent by\n  a robot")
    assert text != CASES
    (place / "cases.yml").write_text(text, encoding="utf-8")

    assert "2 cases, 0 not as claimed" in call("test", place / "cases.yml", "--rules", place / "rules").stdout


@pytest.mark.parametrize(
    "words", [["list", "delegate"], ["show", "B01"], ["export", "--to", "sigma", "--rule", "B02"]]
)
def test_a_configuration_by_a_pipe_is_read_once(words: list[str]) -> None:
    """Read again it would be empty."""
    credentials = {"tenant_id": GUID, "client_id": GUID, "client_secret": "a-secret"}
    document = {"inputs": {"office365": {"credentials": credentials}}, "detections": {"packs": ["core"]}}
    reading, writing = os.pipe()
    os.write(writing, json.dumps(document).encode())
    os.close(writing)
    try:
        result = CliRunner().invoke(app, ["rules", *words, "--config", f"/dev/fd/{reading}"])
    finally:
        os.close(reading)

    assert result.exit_code == 0, result.output
