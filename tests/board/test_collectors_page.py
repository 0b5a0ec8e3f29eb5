"""The configuration changed from the board: shown first, kept, undone, and no secret leaves."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from asking import board_of
from configured import (
    INPUT,
    MARK,
    OTHER,
    SECRET,
    TENANT,
    YAML,
    Configured,
    editable,
    remove,
    switch,
    undo,
    write,
)
from m365watch.board.access.roles import Access, Role
from m365watch.board.config_editor.change_history import FOLDER
from m365watch.board.config_editor.config_changes import OUTPUTS_COUNT
from m365watch.board.config_editor.config_instances import template_of
from m365watch.board.config_editor.preflight import Busy, TrialAsked, Trials
from m365watch.board.widgets.template_renderer import Templates
from m365watch.common.clock import SystemClock
from m365watch.health.config_status import MEMORY, ConfigurationNote
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.registry.checks import Check, Checked, Group, Place, Verdict
from m365watch.registry.output_specs import OUTPUTS
from test_trail import Memory


@pytest.fixture
def it(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def base_of(it: Configured) -> str:
    """What a page would say of the text, whatever that is."""
    return it.sources.desk.read(it.sources.settings).base


def test_a_change_is_shown_made_kept_and_undone(it: Configured) -> None:
    """The difference first; then every other byte stays; then one click brings the old text back."""
    shown = it.review(switch("outputs", "devo", on=False))
    assert "+    enabled: false" in shown["difference"]
    assert "No collector is seen to run" in shown["then"][0]
    assert it.text() == YAML

    made = it.apply(switch("outputs", "devo", on=False))
    assert it.text() == YAML.replace("    type: devo_http\n", "    enabled: false\n    type: devo_http\n")
    assert stat.S_IMODE(it.file.stat().st_mode) == 0o600
    history = it.get("/panel/collectors/history").text
    assert "stopped output devo" in history
    assert "by ann" in history

    it.apply(undo(made["number"]))
    assert it.text() == YAML
    assert "undone by change 2" in it.get("/panel/collectors/history").text
    it.apply(undo(2))
    assert "enabled: false" in it.text()


def test_an_instance_is_added_edited_and_removed(it: Configured) -> None:
    """Its text stands where it belongs; the page shows it at once, and the others as before."""
    it.apply(write("inputs", "second", INPUT.format(tenant=OTHER), is_new=True))
    assert OTHER in it.get("/panel/collectors/inputs").text
    assert it.text().startswith(YAML[: YAML.index("outputs:")])

    it.apply(write("inputs", "second", editable(it, "inputs.second") + "environment: test\n"))
    assert 'client_secret: "typed-by-hand"' in it.text()
    assert "environment: test" in it.text()

    it.apply(remove("inputs", "second"))
    assert it.text() == YAML


def test_a_service_is_paused_and_the_others_go_on(it: Configured) -> None:
    """Where no service was named, all that are collected are; a start of it changes one word."""
    it.apply(switch("inputs", "office365", on=False, service="exchange"))
    paused = {service.service for one in it.sources.settings.tenants for service in one.services}
    assert paused == {"azure_active_directory", "sharepoint", "general_audit", "dlp"}
    assert ">paused<" in it.get("/panel/collectors/inputs").text

    before = it.text()
    it.apply(switch("inputs", "office365", on=True, service="exchange"))
    assert it.text() == before.replace("{enabled: false}", "{enabled: true}")


def test_paused_is_what_is_paused_and_not_what_the_file_wishes(it: Configured) -> None:
    """A demo's collector reads its file once: nobody is told that it stopped what it goes on with."""
    ledger = SqliteLedger(
        it.sources.settings.state_directory, outputs=frozenset({"lake"}), now=SystemClock().now()
    )
    try:
        asked = switch("inputs", "office365", on=False, service="exchange")
        assert "does not read its file again" in json.dumps(it.review(asked))
        it.apply(asked)
        shown = it.get("/panel/collectors/inputs").text
        tiles = it.get("/panel/collectors/standing").text
    finally:
        ledger.close()

    assert "paused in the file" in shown
    assert "restart it" in shown
    assert ">paused<" not in shown
    assert "1 paused in the file" in tiles
    assert ">paused<" in it.get("/panel/collectors/inputs").text


def test_a_change_of_outputs_is_said_to_count_within_seconds(it: Configured) -> None:
    """Beside a collector that follows its file; nobody is told to restart it."""
    ledger = SqliteLedger(
        it.sources.settings.state_directory, outputs=frozenset({"lake"}), now=SystemClock().now()
    )
    try:
        ledger.remember(MEMORY, ConfigurationNote(SystemClock().now().timestamp()).body())
        said = json.dumps(it.review(switch("outputs", "devo", on=False)))
    finally:
        ledger.close()

    assert "within seconds" in said
    assert "What is in flight is finished first" in said
    assert "restart" not in said


def test_a_long_text_is_judged_in_a_moment(it: Configured) -> None:
    """One long word, thousands of unknown keys: each took minutes by the square of its length."""
    long = write("inputs", "new", "a" * 60_000, is_new=True)
    many = write("inputs", "new", "".join(f"key{one}: 1\n" for one in range(1_200)), is_new=True)
    begun = time.process_time()

    assert "longer than 4,096" in it.review(long)["mistakes"][0]["says"]
    mistakes = it.review(many)["mistakes"]

    assert {one["line"] for one in mistakes} >= set(range(2, 1_200))
    assert time.process_time() - begun < 20


def test_a_text_that_is_too_long_is_refused_before_it_is_read(it: Configured) -> None:
    """With what to do in its place."""
    [mistake] = it.review(write("inputs", "new", "a: 1\n" * 20_000, is_new=True))["mistakes"]

    assert "longer than 65,536 characters" in mistake["says"]
    assert "the file itself" in mistake["says"]


def test_the_first_output_pushes_no_lake_out(tmp_path: Path) -> None:
    """Without outputs there is a lake by default, which is written down beside the first one named."""
    it = Configured(tmp_path, YAML[: YAML.index("outputs:")])
    assert "by default" in it.get("/panel/collectors/outputs").text

    it.apply(write("outputs", "files", "type: files", is_new=True))

    assert [one.name for one in it.sources.settings.outputs] == ["lake", "files"]


@guarantee(44)
def test_no_secret_comes_to_a_browser(it: Configured) -> None:
    """Not on a page, in a document, an export, a difference, the history or an answer."""
    new = write("outputs", "devo", editable(it, "outputs.devo").replace("ours", "ours, compression: none"))
    answers = [it.post("/collectors/review", new), it.post("/collectors/apply", new)]
    typed = editable(it, "inputs.office365").replace(f'"{MARK}"', f'"{SECRET}3"')
    answers += [it.post("/collectors/apply", write("inputs", "office365", typed))]
    for panel in ("standing", "inputs", "outputs", "history", "trial"):
        answers += [it.get(f"/{way}/collectors/{panel}") for way in ("panel", "api/v1")]
        answers.append(it.get(f"/export/collectors/{panel}.csv"))
    for instance in ("inputs.office365", "outputs.devo"):
        answers += [it.get(f"/{way}/instance/editor?instance={instance}") for way in ("panel", "api/v1")]
    folder = it.sources.settings.state_directory / FOLDER
    kept = [path.read_text() for path in folder.iterdir()]

    assert {answer.status for answer in answers} == {200}
    assert not any(SECRET in text for text in [*(answer.text for answer in answers), *kept])
    assert f"{SECRET}3" in it.text()
    assert f"{SECRET}2" in it.text()
    again = it.review(write("inputs", "office365", typed.replace(f"{SECRET}3", f"{SECRET}4")))
    assert "a new secret, which is shown nowhere" in again["notes"][0]


def test_the_history_is_its_owners_alone(it: Configured) -> None:
    """Its folder and its files."""
    it.apply(switch("outputs", "devo", on=False))
    folder = it.sources.settings.state_directory / FOLDER

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())]

    assert modes == [0o700, 0o600]


@guarantee(44)
def test_a_file_that_somebody_else_changed_is_not_overwritten(it: Configured) -> None:
    """Whoever comes second is told what is another by now, and may load the page again."""
    base = it.base
    it.file.write_text(YAML.replace("# ours", "# theirs"))

    refused = it.post("/collectors/apply", switch("outputs", "devo", on=False), base)

    assert refused.status == 409
    assert "+# theirs" in json.loads(refused.body)["difference"]
    assert it.text() == YAML.replace("# ours", "# theirs")
    strange = it.post("/collectors/review", switch("outputs", "devo", on=False), "0" * 32)
    assert strange.status == 409


MISTAKES = {
    "placeholder": (INPUT.format(tenant="<tenant>"), 3, "is a placeholder"),
    "unknown key": (INPUT.format(tenant=OTHER) + "cloudd: worldwide\n", 6, 'did you mean "cloud"?'),
    "value": (INPUT.format(tenant="nobody"), 3, "is not a GUID"),
    "missing": ("type: office365\ncredentials: {client_id: x}\n", 2, "tenant_id: is missing"),
    "syntax": ("type: [office365\nid: 1\n", 2, "expected"),
    "bomb": ("a: &a [x, x]\nb: [*a, *a]\n", 2, "aliases"),
    "tag": ("type: !!python/name:os.system x\n", 1, "tags"),
    "deep": ("type: " + "[" * 500 + "\n", 0, "nested too deeply"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line(it: Configured, name: str) -> None:
    """As it is typed; and it does not go into the file."""
    text, line, words = MISTAKES[name]
    asked = write("inputs", "second", text, is_new=True)

    judged = it.review(asked)

    assert judged["can"] is False
    assert [one for one in judged["mistakes"] if words in one["says"] and one["line"] == line], judged
    assert it.post("/collectors/apply", asked).status == 422
    assert it.text() == YAML


@guarantee(44)
def test_what_was_changed_since_is_not_undone(it: Configured) -> None:
    """A change of the same instance comes first; what needs a secret again is created anew with its text."""
    first = it.apply(switch("outputs", "devo", on=False))["number"]
    it.apply(switch("outputs", "devo", on=True))
    assert "changed again since" in it.review(undo(first))["mistakes"][0]["says"]

    gone = it.apply(remove("outputs", "devo"))["number"]
    assert "kept nowhere" in it.review(undo(gone))["mistakes"][0]["says"]
    assert f"past={gone}" in it.get("/panel/collectors/history").text
    anew = it.get(f"/panel/instance/editor?instance=outputs&past={gone}").text
    assert "http-eu.example" in anew
    assert "99999" in it.review(undo(99999))["mistakes"][0]["says"]


@guarantee(44)
@pytest.mark.parametrize(
    "access",
    [
        Access("bob", Role.ANALYST, tenants=None),
        Access("carol", Role.ADMIN, tenants=frozenset({OTHER})),
    ],
)
def test_others_than_administrators_of_everything_change_nothing(tmp_path: Path, access: Access) -> None:
    """Nor do they see what belongs to all tenants."""
    it = Configured(tmp_path, access=access)

    for path in ("review", "apply", "try"):
        body = json.dumps({"change": switch("outputs", "devo", on=False), "base": ""}).encode()
        assert it.send(f"/collectors/{path}", body).status == 403
    assert "cde3d36d" not in it.get("/panel/collectors/inputs").text
    assert "cde3d36d" not in it.get("/panel/instance/editor?instance=inputs.office365").text
    assert it.text() == YAML


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"change": {"act": "format"}, "base": ""}', b"[" * 100_000, b" " * 300_000, b"\xff"],
)
def test_a_request_that_cannot_be_read_is_refused(it: Configured, body: bytes) -> None:
    """Whatever it is, and however long."""
    for path in ("review", "apply", "try"):
        assert it.send(f"/collectors/{path}", body).status == 400


@guarantee(44)
def test_without_a_history_nothing_is_changed(it: Configured) -> None:
    """What could not be undone is not made."""
    state = it.sources.settings.state_directory
    state.write_text("a file where a folder should be")

    refused = it.post("/collectors/apply", switch("outputs", "devo", on=False))

    assert refused.status == 503
    assert "history" in refused.text
    assert it.text() == YAML


def test_a_file_that_cannot_be_read_is_told(it: Configured) -> None:
    """With the line; and where the inputs are another file's, with whose they are."""
    it.file.write_text("inputs: [\n")
    assert "line 2" in it.get("/panel/collectors/inputs").text
    unreadable = json.loads(
        it.post("/collectors/review", switch("outputs", "devo", on=False), base_of(it)).body
    )
    assert "line 2" in unreadable["mistakes"][0]["says"]
    it.file.unlink()
    assert "cannot be read" in it.get("/panel/collectors/inputs").text
    it.file.write_text("outputs: {lake: {type: lake}}\n")
    judged = it.post("/collectors/review", switch("outputs", "lake", on=False))
    assert "collector server" in judged.text


def test_mistakes_that_were_there_before_are_no_hindrance(it: Configured) -> None:
    """Somebody who mends one instance is not kept from it by another."""
    it.file.write_text(
        YAML.replace("domain: ours", "domain: ours, bogus: 1").replace("cloud: worldwide", "cloud: mars")
    )

    mended = editable(it, "inputs.office365").replace("mars", "worldwide").replace(f'"{MARK}"', '"again"')
    judged = it.review(write("inputs", "office365", mended))

    assert judged["can"] is True
    assert "it was so before" in judged["notes"][-1]


@pytest.mark.parametrize("type_", [spec.type for spec in OUTPUTS.specs])
def test_a_template_is_right_once_it_is_filled_in(it: Configured, type_: str) -> None:
    """What it lacks are values, and the files of a certificate."""
    name, text = template_of("outputs", type_)
    text = text.replace("directory: lake", "directory: second")
    judged = it.review(write("outputs", f"{name}_2", text, is_new=True))

    expected = ("is a placeholder", "upload the file")
    assert all(any(words in one["says"] for words in expected) for one in judged["mistakes"]), judged


def test_the_trail_says_what_was_changed(it: Configured) -> None:
    """In words, with who it was; what was only looked at while somebody typed is no deed."""
    trail = Memory()
    it.board = board_of(it.sources, gate=it.gate, trail=trail)
    it.review(switch("outputs", "devo", on=False))
    it.apply(switch("outputs", "devo", on=False))

    assert [(one.name, one.says) for one in trail.deeds if one.action == "change"] == [
        ("ann", "stopped output devo (change 1)")
    ]


def test_an_instance_is_copied_without_its_secret(it: Configured) -> None:
    """Under a name of its own; the secret is typed."""
    found = json.loads(it.get("/api/v1/instance/editor?instance=inputs&template=inputs.office365").body)

    assert found["panel"]["name"] == "office365_2"
    assert TENANT in found["panel"]["text"]
    assert MARK in found["panel"]["text"]
    judged = it.review(write("inputs", "office365_2", found["panel"]["text"], is_new=True))
    assert "type the secret" in judged["mistakes"][0]["says"]


def test_when_a_change_of_an_output_counts_stands_beside_it(it: Configured) -> None:
    """They are taken up once what is in flight is finished; inputs at once, and nothing is said of them."""
    for url in ("/panel/collectors/outputs", "/panel/instance/editor?instance=outputs&template=files"):
        assert OUTPUTS_COUNT in it.get(url).text, url
    for url in ("/panel/collectors/inputs", "/panel/instance/editor?instance=inputs.office365"):
        assert OUTPUTS_COUNT not in it.get(url).text, url


def test_what_is_changed_elsewhere_is_shown(it: Configured) -> None:
    """A file that somebody edits is taken up, and one with mistakes leaves all as it was."""
    it.file.write_text(YAML.replace(TENANT, OTHER))
    asyncio.run(it.sources.take_up())
    assert [one.tenant_id for one in it.sources.settings.tenants] == [OTHER]

    it.file.write_text(YAML.replace("office365:", "office365: ["))
    asyncio.run(it.sources.take_up())
    assert [one.tenant_id for one in it.sources.settings.tenants] == [OTHER]


def test_what_a_preflight_sees_is_never_markup() -> None:
    """Whatever a server answers."""
    hostile = "<img src=x onerror=alert(1)>"
    step = Checked(Check.TOKEN, Verdict.BROKEN, hostile, hostile, hostile)
    group = Group(Place.TENANT, hostile, (step,))

    page = Templates().render(
        "trial_group.html",
        title=hostile,
        group=group,
        words={Verdict.BROKEN: hostile},
        tones={Verdict.BROKEN: "high"},
    )

    assert "<img" not in page
    assert page.count("&lt;img src=x") == 4


def test_the_keys_beside_the_editor_are_those_of_the_schema(it: Configured) -> None:
    """Of an input, and of an output by its type."""
    of_input = json.loads(it.get("/api/v1/instance/keys?instance=inputs.office365").body)["panel"]["rows"]
    of_devo = json.loads(it.get("/api/v1/instance/keys?instance=outputs.devo").body)["panel"]["rows"]

    assert {"credentials.tenant_id", "services.<service>.enabled"} <= {one["text"] for one in of_input}
    assert "config.endpoint" in {one["text"] for one in of_devo}


def test_one_preflight_runs_at_a_time(it: Configured) -> None:
    """Whoever leaves it makes room for the next."""
    trials = Trials(it.sources, Templates())

    async def act() -> list[dict[str, Any]]:
        asked = TrialAsked(of="outputs.lake")
        first = await trials.begin(asked)
        with pytest.raises(Busy):
            await trials.begin(asked)
        await first.aclose()
        async with aclosing(await trials.begin(asked)) as told:
            return [one async for one in told]

    told = asyncio.run(act())

    assert [one["kind"] for one in told if one["kind"] != "progress"][-1] == "end"
    assert any("This machine" in str(one.get("html")) for one in told)


def test_a_configuration_that_no_run_could_use_is_told_step_by_step(it: Configured) -> None:
    """A variable that is missing is a broken step with its cure, and nothing else is tried."""
    it.file.write_text(YAML.replace(f'"{SECRET}"', "${M365_MISSING}"))

    answer = it.send("/collectors/try", b"{}")

    assert "the environment lacks M365_MISSING" in answer.text
    assert json.loads(answer.text.splitlines()[-1])["broken"] is True
    assert os.environ.get("M365_MISSING") is None
