"""What the pages on deploying tell somebody to type can work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m365watch.cli.program import app

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = sorted(
    path
    for folder in ("docs", "src", "deploy")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".md", ".py", ".yaml", ".html"} or path.name == "Containerfile"
)


@pytest.mark.parametrize("page", ["deploy/compose.yaml", "docs/deploying.md", "docs/secrets.md"])
def test_the_secret_of_a_container_is_given_to_the_image_s_user(page: str) -> None:
    """A file of the host keeps its owner and mode there: the administrator's own cannot be read."""
    [user] = re.findall(r"^USER (\d+):", (ROOT / "deploy/Containerfile").read_text(), re.MULTILINE)

    assert re.search(rf"sudo chown {user} (\w+) && sudo chmod 400 \1\b", (ROOT / page).read_text())


def test_nothing_is_installed_by_a_name_that_nobody_has_published() -> None:
    """Whoever takes it in an index would be run, by root: until a release it is a folder or a wheel."""
    named = re.compile(r"pip[\d.]* install [^\n`]*?(?<![\w/.])m365watch(?![\w/.-])")

    assert [str(path) for path in WRITTEN if named.search(path.read_text())] == []


def test_the_unit_s_secret_is_lent_to_check_by_its_own_name() -> None:
    """The line is that of the unit, so that the same configuration loads."""
    unit = (ROOT / "deploy/m365watch.service").read_text()
    [lent] = re.findall(r"^(LoadCredential=\S+)$", unit, re.MULTILINE)
    [user] = re.findall(r"^User=(\S+)$", unit, re.MULTILINE)
    page = (ROOT / "docs/deploying.md").read_text()

    assert f"systemd-run --pipe --wait --uid={user} -p {lent} " in page
    assert "deploying.md#a-service-of-systemd" in (ROOT / "docs/upgrading.md").read_text()


def test_the_drop_in_for_the_board_starts_what_the_unit_starts_and_the_board() -> None:
    """A drop-in's second ExecStart would be refused, were the first not taken back."""
    unit, page = (ROOT / "deploy/m365watch.service").read_text(), (ROOT / "docs/deploying.md").read_text()
    [start] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    [drop_in] = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)

    assert drop_in.splitlines() == ["[Service]", "ExecStart=", f"ExecStart={start} --board"]
    assert CliRunner().invoke(app, [*shlex.split(start)[1:], "--board", "--help"]).exit_code == 0
