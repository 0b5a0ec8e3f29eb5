"""What a page of the board may not do to the configuration, whoever is signed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configured import INPUT, MARK, OTHER, SECRET, TENANT, YAML, Configured, editable, undo, write
from m365watch.board.configuring.safeguards import refusals
from m365watch.errors import Defect


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


@pytest.mark.parametrize(
    "key", ["client_secret", "federated_token", "token", "password", "proxy_password", "auth_id"]
)
def test_a_kept_secret_of_any_kind_goes_to_no_other_host(tmp_path: Path, key: str) -> None:
    """Whether it stands in the text or in a file."""
    for line in (f'{key}: "{MARK}"', f"{key}_file: kept"):
        kept = f"config: {{address: ours.example, {line}}}\n"
        turned = kept.replace("ours", "evil")

        assert refusals(kept, kept, kept, folders=(tmp_path,)) == []
        [(path, why)] = refusals(turned, kept, kept, folders=(tmp_path,))
        assert str(path[-1]).startswith(key)
        assert "would be sent elsewhere" in why


def test_a_kept_secret_goes_through_no_other_proxy(it: Configured) -> None:
    """Who names the way that requests take reads what they hold."""
    text = editable(it, "inputs.office365")

    judged = it.review(
        write("inputs", "office365", f"{text}network: {{proxy: 'http://evil.example:3128'}}\n")
    )

    assert judged["can"] is False
    assert ["would be sent elsewhere" in one["says"] for one in judged["mistakes"]] == [True]


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
