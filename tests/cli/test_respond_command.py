"""`m365watch respond`: the plan for an alert, printed."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from promises import guarantee
from typer.testing import CliRunner

from m365watch.cli.program import app
from m365watch.detection.alerts.alert import Alert, AlertId, Match
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import set_states
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.response.journal import Journal, Line
from one_feed import write_one_feed

TENANT = "22222222-2222-2222-2222-222222222222"
HOSTILE = "x\u2019; Stop-Computer; \u2018\x1b"
AT_MS = 1_795_730_400_000


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with one feed."""
    return write_one_feed(tmp_path, TENANT)


def keep_alert(config: Path, *, alert_id: str, rule_name: str = "..") -> None:
    """Put an alert and its match where a collector would."""
    state = config.parent / "state"
    state.mkdir(exist_ok=True)
    alert = Alert(
        id=AlertId(alert_id),
        rule_id="b01",
        title="Inbox rule sends mail outside",
        severity=Severity("high"),
        tenant=TENANT,
        group=("ann@contoso.example",),
        entities=(("user", "ann@contoso.example"),),
        first_at_ms=AT_MS,
        last_at_ms=AT_MS,
        count=1,
        evidence=("r1",),
        explanation="Ann made a rule.",
        contain=("remove_inbox_rule", "revoke_sessions", "remove_forwarding"),
    )
    match = Match(
        rule_id="b01",
        source_id="b01",
        tenant=TENANT,
        group=alert.group,
        at_ms=AT_MS,
        identity=alert_id,
        record_id="r1",
        severity=alert.severity,
        values={
            "Operation": "New-InboxRule",
            "Parameters.Name": rule_name,
            "Parameters.MoveToFolder": "RSS Feeds",
        },
    )
    with closing(DetectionState(state / FILE_NAME)) as kept, kept.transaction():
        kept.matches.add([match])
        kept.alerts.put(KeptAlert(alert, shown=True))


def run(config: Path, *arguments: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr."""
    found = CliRunner().invoke(app, ["respond", "--config", str(config), *arguments])
    return found.exit_code, found.stdout, found.stderr


def test_the_plan_is_printed_with_graph_and_powershell(config: Path) -> None:
    """An id may be shortened; the calls go to the Graph of the tenant's cloud."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    code, out, _ = run(config, "ABCD")

    assert code == 0
    assert '2. Remove the inbox rule ".." of ann@contoso.example  [can be undone]' in out
    assert "GET http://127.0.0.1:9/v1.0/users/ann%40contoso.example/mailFolders/inbox/messageRules\n" in out
    assert "1. End all sessions of ann@contoso.example  [cannot be undone]" in out
    assert "3. See whether ann@contoso.example forwards its mail besides, and to whom  [by hand]" in out
    assert "MailboxSettings.ReadWrite, User.RevokeSessions.All\n" in out
    assert "\nWith these besides less is left to you: Mail.ReadBasic.All, User.Read.All\n" in out
    assert "\n1 step is yours, by hand: 3\n" in out


def test_in_china_inbox_rules_are_left_to_powershell(config: Path) -> None:
    """Graph does not serve them there: its calls stood in the plan, and --apply made them."""
    document = json.loads(config.read_text())
    (given,) = document["inputs"].values()
    given["cloud"]["graph_url"] = "https://microsoftgraph.chinacloudapi.cn"
    config.write_text(json.dumps(document))
    keep_alert(config, alert_id="abcd" + "0" * 28)
    code, out, _ = run(config, "abcd")

    assert code == 0
    assert "POST https://microsoftgraph.chinacloudapi.cn/v1.0/users/ann%40contoso.example/revoke" in out
    assert '2. Remove the inbox rule ".." of ann@contoso.example  [by hand]' in out
    assert "   By hand: Graph has no inbox rules in this cloud.\n" in out
    assert "Remove-InboxRule -Mailbox 'ann@contoso.example'" in out
    for word in (
        "messageRules",
        "MailboxSettings",
        "Mail.ReadBasic.All",
        "better by Graph",
        "Graph compares",
    ):
        assert word not in out
    assert "\n2 steps are yours, by hand: 2, 3\n" in out


def test_the_plan_as_json_has_the_same_steps(config: Path) -> None:
    """One document; a body of a call is a body."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    code, out, _ = run(config, "abcd", "--json")
    document = json.loads(out)

    assert code == 0
    assert [(one["number"], one["step"], one["by_hand"]) for one in document["steps"]] == [
        (1, "revoke_sessions", False),
        (2, "remove_inbox_rule", False),
        (3, "remove_forwarding", True),
    ]
    assert document["steps"][0]["graph"][0]["method"] == "POST"
    assert document["steps_by_hand"] == 1
    assert document["steps"][1]["wished_permissions"] == ["Mail.ReadBasic.All", "User.Read.All"]
    assert document["wished_permissions"] == ["Mail.ReadBasic.All", "User.Read.All"]


def test_what_failed_is_not_headed_as_done(config: Path) -> None:
    """What came of it stands at the end of its line, with why."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    at, title = datetime(2026, 11, 17, 2, tzinfo=UTC), "Disable the account ann@contoso.example"
    begun = Line("d1", at, "bea", "abcd" + "0" * 28, TENANT, "begun", "disable_account", title)
    for line in (begun, msgspec.structs.replace(begun, outcome="failed", error="Graph answered HTTP 403")):
        Journal(config.parent / "state").write(line)

    told = f"2026-11-17 02:00:00Z {title}: failed, by bea: Graph answered HTTP 403"
    assert f"\nresponse: {told}\n" in run(config, "abcd")[1]


def test_both_documents_of_an_alert_have_the_responses_alike(config: Path) -> None:
    """Under one key there were sentences here, and parts in `alerts show`."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    at, title = datetime(2026, 11, 17, 2, tzinfo=UTC), "Disable the account ann@contoso.example"
    done = Line("d1", at, "bea", "abcd" + "0" * 28, TENANT, "done", "disable_account", title)
    Journal(config.parent / "state").write(done)
    shown = CliRunner().invoke(app, ["alerts", "show", "abcd", "--config", str(config), "--json"])

    [told] = json.loads(run(config, "abcd", "--json")[1])["responses"]
    assert (told["title"], told["outcome"]) == (title, "done")
    assert json.loads(shown.stdout)["responses"] == [told]


def test_a_hostile_name_is_neither_in_a_command_nor_on_the_terminal(config: Path) -> None:
    """A name with a character that is not shown is in no command; the page has no escape sequence."""
    keep_alert(config, alert_id="abcd" + "0" * 28, rule_name=HOSTILE)
    _, out, _ = run(config, "abcd")

    assert "Stop-Computer" not in out
    assert "\x1b" not in out
    assert "Remove bad inbox rules of ann@contoso.example" in out


@pytest.mark.parametrize(
    ("given", "expected"),
    [("ffff", "there is no such alert"), ("abc", "give at least 4 digits"), ("abcd", "2 alerts begin so")],
)
def test_an_alert_that_is_not_clear_is_refused(config: Path, given: str, expected: str) -> None:
    """A plan for another alert would contain the wrong person."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    keep_alert(config, alert_id="abcd" + "1" * 28)
    code, out, err = run(config, given)

    assert (code, out) == (2, "")
    assert expected in " ".join(err.replace("│", " ").split())


@guarantee(40)
def test_what_somebody_closed_is_not_contained_unasked(config: Path) -> None:
    """Whoever closed it had a reason, which is told; the plan may be read all the same."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    path = config.parent / "state" / FILE_NAME
    set_states(path, ["abcd"], AlertState.CLOSED, reason="a drill", by="bob", at_ms=AT_MS)
    mark = json.loads(run(config, "abcd", "--json")[1])["mark"]
    code, out, err = run(config, "abcd", "--apply", "--yes", "--plan", mark)

    assert (code, out) == (2, "")
    assert "closed by bob: a drill; open it again first" in " ".join(err.replace("│", " ").split())
    assert run(config, "abcd")[0] == 0


def test_without_detections_it_says_so_and_makes_no_file(config: Path) -> None:
    """Reading leaves nothing behind."""
    done = CliRunner().invoke(app, ["respond", "abcd", "--config", str(config)])

    assert done.exit_code == 1
    assert "there are no alerts here" in str(done.exception)
    assert not (config.parent / "state" / FILE_NAME).exists()


def close_alert(config: Path, alert_id: str) -> None:
    """A colleague has looked at it."""
    with closing(DetectionState(config.parent / "state" / FILE_NAME)) as state, state.transaction():
        state.alerts.set_state(alert_id, AlertState.CLOSED, reason="the owner's rule", by="bea", at_ms=AT_MS)


def test_what_somebody_closed_is_contained_only_once_it_is_open_again(config: Path) -> None:
    """At the head of the plan it says who closed it and why."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    close_alert(config, "abcd" + "0" * 28)
    _, out, _ = run(config, "abcd")
    mark = json.loads(run(config, "abcd", "--json")[1])["mark"]
    code, _, err = run(config, "abcd", "--apply", "--yes", "--plan", mark)

    assert "note: this alert was closed by bea: the owner's rule\n" in out
    assert code == 2
    assert "m365watch alerts reopen abcd0000" in " ".join(err.replace("│", " ").split())


def test_a_step_by_its_number_alone_is_refused(config: Path) -> None:
    """The plan may be another by now; its mark says which one was read."""
    keep_alert(config, alert_id="abcd" + "0" * 28)
    mark = json.loads(run(config, "abcd", "--json")[1])["mark"]
    blind, _, _ = run(config, "abcd", "--apply", "--yes", "--step", "1")
    other, _, err = run(config, "abcd", "--apply", "--yes", "--step", "1", "--plan", "00000000")
    loose, _, _ = run(config, "abcd", "--plan", mark)

    assert (blind, other, loose) == (2, 2, 2)
    assert f"it is {mark} by now" in " ".join(err.replace("│", " ").split())


def test_a_plan_says_why_a_spared_account_is_left_to_a_person(config: Path) -> None:
    """The setting counts without an application that responds, too."""
    keep_alert(config, alert_id="f" * 32)
    document = json.loads(config.read_text())
    document.setdefault("detections", {})["spared_accounts"] = "ann@contoso.example"
    config.write_text(json.dumps(document))

    done = CliRunner().invoke(app, ["respond", "ffff", "--json", "--config", str(config)])

    [step] = [one for one in json.loads(done.stdout)["steps"] if one["step"] == "revoke_sessions"]
    assert step["asks_always"]
    assert "detections.spared_accounts" in step["notes"][0]
