"""What a page of the board may not do to the configuration, whoever is signed in."""

from __future__ import annotations

import base64
import json
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
from m365watch.board.config_editor.change_validation import Proposed, refusals
from m365watch.board.config_editor.config_instances import template_of
from m365watch.common.errors import Defect
from m365watch.config.sensitive_keys import sensitive_keys
from test_trail import Memory


@pytest.fixture
def it(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


OURS = "https://http-eu.example"
TYPED = "typed-by-hand"
FILES = "type: files\nconfig:\n  directory: {}\n"
HTTP = 'type: devo_http\nconfig: {{endpoint: "{}", domain: ours, token: "{}"}}\n'
REFUSED = {
    "absolute path": write("outputs", "x", FILES.format("/etc/cron.d"), is_new=True),
    "path upwards": write("outputs", "x", FILES.format("a/../../b"), is_new=True),
    "link": write("outputs", "x", FILES.format("link/b"), is_new=True),
    "secret file": write("outputs", "x", "type: devo_http\nconfig: {token_file: /etc/shadow}\n", is_new=True),
    "variable": write("outputs", "x", HTTP.format("https://evil.example", "${PATH}"), is_new=True),
    "keyring": write("outputs", "x", HTTP.format("https://evil.example", "keyring:a/b"), is_new=True),
    "kept secret elsewhere": write("outputs", "devo", HTTP.format("https://evil.example", MARK)),
    "kept secret shown": write(
        "outputs", "devo", HTTP.format("https://http-eu.example", MARK).replace("ours", MARK)
    ),
    "kept secret of another": write("outputs", "x", HTTP.format("https://evil.example", MARK), is_new=True),
    "cloud": write(
        "inputs", "office365", INPUT.format(tenant=OTHER).replace("typed-by-hand", MARK) + "cloud: china\n"
    ),
    "path in a name": write("outputs", "../x", "type: files", is_new=True),
    "zero in a path": write("outputs", "x", FILES.format('"o\\0ut"'), is_new=True),
    "half a letter in a path": write("outputs", "x", FILES.format('"\\ud800x"'), is_new=True),
    "zero in a secret's path": write(
        "outputs", "x", 'type: devo_http\nconfig: {token_file: "a\\0b"}\n', is_new=True
    ),
    "zero in a chain": write("outputs", "x", 'type: devo_platform\nconfig: {chain: "a\\0"}\n', is_new=True),
    "markup in a name": write("outputs", "<b>", "type: files", is_new=True),
}


@guarantee(44)
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_page_may_not_do_is_refused(it: Configured, name: str) -> None:
    """Reading files and variables through the configuration, or sending a kept secret to somebody else."""
    (it.file.parent / "link").symlink_to("/etc")

    judged = it.review(REFUSED[name])

    assert judged["can"] is False
    assert judged["mistakes"]
    assert it.post("/collectors/apply", REFUSED[name]).status == 422
    assert it.post("/collectors/try", REFUSED[name]).status == 422
    assert it.text() == YAML


def test_a_defect_is_said_as_everything_else_is(it: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words for the page and with a code; what the foreign error quotes stays out of it."""

    def fails(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(it.sources.desk, "judge", fails)

    answer = it.post("/collectors/review", write("outputs", "x", FILES.format("out"), is_new=True))

    told = json.loads(answer.body)
    assert (answer.status, told.keys(), told["code"]) == (500, {"says", "code"}, Defect.code)
    assert "ValueError" in told["says"]
    assert SECRET not in answer.text


IN_FILES = f"""\
inputs:
  office365:
    type: office365
    credentials:
      tenant_id: "{TENANT}"
      client_id: "cde3d36d-c36a-4df6-abb3-607d29e179a4"
      client_secret_file: secret
    cloud: {{login_url: "{OURS}", management_url: "{OURS}", graph_url: "{OURS}"}}
outputs:
  devo:
    type: devo_http
    config: {{endpoint: "{OURS}", domain: ours, token_file: token}}
"""


@pytest.mark.parametrize(
    ("what", "turned"), [("inputs.office365", "login_url"), ("outputs.devo", "endpoint")]
)
def test_a_secret_in_a_file_goes_nowhere_else(tmp_path: Path, what: str, turned: str) -> None:
    """Nothing of the secret stands in the text, which leaves it where it was and turns the host alone."""
    for name in ("secret", "token"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o600)
    it = Configured(tmp_path, IN_FILES)
    kind, name = what.split(".")
    text = editable(it, what)
    moved = write(kind, name, text.replace(f'{turned}: "{OURS}"', f'{turned}: "https://evil.example"'))

    judged = it.review(moved)

    assert judged["can"] is False
    assert ["would be sent elsewhere" in one["says"] for one in judged["mistakes"]] == [True]
    assert it.post("/collectors/apply", moved).status == 422
    assert it.post("/collectors/try", moved).status == 422
    assert it.text() == IN_FILES
    assert it.review(write(kind, name, f"{text}# only a word\n"))["can"] is True


def section_with(values: dict[tuple[str, ...], object]) -> str:
    section: dict[str, Any] = {}
    for key, value in values.items():
        around = section
        for part in key[:-1]:
            around = around.setdefault(part, {})
        around[key[-1]] = value
    return json.dumps(section)


SECRET_TEXTS = {
    "inputs": (("credentials", "client_secret"), ("credentials", "second", "client_secret")),
    "outputs": (("config", "token"), ("config", "key_password")),
}


@guarantee(44)
@pytest.mark.parametrize("kind", SECRET_TEXTS)
def test_a_kept_secret_of_any_kind_goes_to_no_other_host(tmp_path: Path, kind: str) -> None:
    """Whether it stands in the text, in a variable or in a file, and whatever key it is that turns."""
    keys = sensitive_keys(kind)
    stored: list[tuple[tuple[str, ...], str, str]] = [
        (key, written, kept)
        for key in SECRET_TEXTS[kind]
        for written, kept in (("in the file", MARK), ("${M365_SECRET}", "${M365_SECRET}"))
    ]
    stored += [(key, "kept.pem", "kept.pem") for key in keys.files]

    for secret, written, kept in stored:
        for turned in keys.destinations.keys() - {secret}:
            before = section_with({secret: written, turned: "ours"})
            for after, count in (("ours", 0), ("evil", 1)):
                proposed = Proposed(kind, "x", section_with({secret: kept, turned: after}), before)
                found = refusals(
                    proposed, "{}", suffix=".yaml", folders=(tmp_path,), state_directory=tmp_path
                )
                ours = [why for path, why in found if path == secret]
                assert ["would be sent elsewhere" in why for why in ours] == [True] * count, (secret, turned)


def test_an_authority_is_uploaded_with_the_certificate_that_it_is_for(it: Configured) -> None:
    """It is a destination itself: certificate and key are bound to it, and all three to the address."""
    text = template_of("outputs", "devo_platform")[1].replace("<collector-xx.devo.io>", "ours.example")
    files = {f"config.{key}": base64.b64encode(key.encode()).decode() for key in ("key", "cert", "chain")}
    asked = {"change": write("outputs", "new", text, is_new=True), "base": it.base, "files": files}
    uploaded = json.loads(it.send("/collectors/upload", json.dumps(asked).encode()).body)["text"]

    def said_of(text: str) -> list[str]:
        judged = it.review(write("outputs", "new", text, is_new=True))
        return [one["says"].partition(": ")[2] for one in judged["mistakes"]]

    assert ["holds no" in one for one in said_of(uploaded)] == [True] * 3
    assert ["uploaded for another" in one for one in said_of(uploaded.replace("ours", "evil"))] == [True] * 3


def test_who_does_not_see_contents_changes_no_output(tmp_path: Path) -> None:
    """An output of their own would show them all that is withheld; inputs they may change."""
    it = Configured(tmp_path, access=Access("bo", Role.ADMIN, tenants=None, sees_contents=False))
    mine = write("outputs", "mine", "type: syslog\nconfig: {address: evil.example, port: 514}\n", is_new=True)
    changes = [mine, switch("outputs", "devo", on=False), remove("outputs", "devo")]

    answers = [it.post(f"/collectors/{act}", one) for one in changes for act in ("review", "try", "apply")]
    assert {one.status for one in answers} == {403}
    assert it.text() == YAML

    seeing = Configured(tmp_path)
    number = seeing.apply(switch("outputs", "devo", on=False))["number"]
    it.sources.settings = seeing.sources.settings
    assert it.post("/collectors/apply", undo(number)).status == 403
    assert it.review(switch("inputs", "office365", on=True))["what"]


def test_the_trail_keeps_the_difference_of_what_was_tried(it: Configured) -> None:
    """Also of what was refused; secrets in stars."""
    trail = Memory()
    it.board = board_of(it.sources, gate=it.gate, trail=trail)
    for path in ("/collectors/try", "/collectors/apply"):
        it.post(path, REFUSED["variable"])

        [told] = [one for one in trail.deeds if one.path == path]
        assert told.status == 422
        assert "+" in told.says
        assert "https://evil.example" in told.says


@guarantee(44)
def test_what_a_variable_holds_is_shown_nowhere(it: Configured, tmp_path: Path) -> None:
    """The name stands in its place, also where a preflight says of a folder how much room it has."""
    value = "value-of-the-variable"
    it.sources.desk.environment = {"M365_WHERE": str(tmp_path / value)}
    it.file.write_text(
        YAML.replace("lake: {type: lake}", "lake: {type: lake, config: {directory: '${M365_WHERE}'}}")
    )

    shown = [
        it.post("/collectors/try", switch("outputs", "devo", on=False)).text,
        it.post("/collectors/review", switch("outputs", "devo", on=False)).text,
        it.send("/collectors/try", b"{}").text,
    ]

    assert "${M365_WHERE}" in shown[2]
    assert [value in one for one in shown] == [False, False, False]


def test_a_kept_secret_goes_through_no_other_proxy(it: Configured) -> None:
    """Who names the way that requests take reads what they hold."""
    text = editable(it, "inputs.office365")

    judged = it.review(
        write("inputs", "office365", f"{text}network: {{proxy: 'http://evil.example:3128'}}\n")
    )

    assert judged["can"] is False
    assert ["would be sent elsewhere" in one["says"] for one in judged["mistakes"]] == [True]


@guarantee(44)
def test_an_undo_sends_no_secret_elsewhere(it: Configured) -> None:
    """A secret that was typed after a change does not go where that change would have sent it."""
    evil = HTTP.format("https://evil.example", "typed")
    number = it.apply(write("outputs", "devo", evil))["number"]
    it.apply(
        undo_of_edit := write("outputs", "devo", HTTP.format("https://http-eu.example", "the right one"))
    )
    assert undo_of_edit
    judged = it.review(undo(number + 1))

    assert judged["can"] is False
    assert "would be sent elsewhere" in judged["mistakes"][0]["says"]
