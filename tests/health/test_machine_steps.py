"""This machine: state, disks, files, and the life of credentials; nothing is left behind by looking."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_outputs import lake_in

from m365watch.common.clock import SystemClock
from m365watch.common.errors import SettingsRefused
from m365watch.common.file_access import why_unwritable
from m365watch.config.loader import parse_settings
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_engine import refused
from m365watch.health.checks.check_specs import free_bytes
from m365watch.health.checks.credentials import check_lives
from m365watch.health.checks.specs.configuration import check_configuration
from m365watch.health.checks.specs.confinement import check_confinement
from m365watch.health.checks.specs.disk import GIBIBYTE, MEBIBYTE, check_disks, queue_bytes_needed
from m365watch.health.checks.specs.permissions import check_permissions
from m365watch.health.checks.specs.state import check_state
from m365watch.health.expiry.expiry_store import known_now
from m365watch.lake.schema import AUDIT
from m365watch.lake.sql_sandbox import confinement
from m365watch.ledger.ledger_database import open_ledger
from m365watch.ledger.schema import LEDGER
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.registry.checks import Check, all_skipped
from m365watch_testing.certificates import Authority
from m365watch_testing.credentials import certificate, client_secret, federated_token, managed_identity
from preflight_scene import BROKEN, NOTE, OK, SKIPPED

GUID = "41463f53-8812-40f4-890f-865bf6e35190"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LAKE = {"lake": {"type": "lake", "config": {"directory": "lake"}}}
SYSLOG = {"type": "syslog", "config": {"address": "localhost", "port": 514, "transport": "udp"}}


def settings_in(folder: Path, outputs: dict[str, Any] | None = None, **globals_: Any) -> Settings:
    credentials = {"tenant_id": GUID, "client_id": GUID, "client_secret": "a-secret"}
    document: dict[str, Any] = {"inputs": {"office365": {"credentials": credentials}}, "globals": globals_}
    if outputs is not None:
        document["outputs"] = outputs
    return parse_settings(document, path=folder / "c.json", environment={})


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """While entered, nobody but an administrator writes to the folder."""
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


def files_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_state_directory_that_is_not_there_yet_can_be_made(tmp_path: Path) -> None:
    """It is not made by looking."""
    step = check_state(settings_in(tmp_path))

    assert step.verdict is OK
    assert "there is no ledger yet" in step.seen
    assert files_below(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may write anywhere")
def test_a_state_directory_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    """With who has to let whom."""
    with forbidden(tmp_path):
        step = check_state(settings_in(tmp_path))

    assert (step.verdict, "permission denied" in step.seen) == (BROKEN, True)


def test_a_file_in_place_of_the_state_directory_is_found(tmp_path: Path) -> None:
    """Whoever looks is an administrator or not."""
    (tmp_path / "state").write_text("")
    step = check_state(settings_in(tmp_path))

    assert (step.verdict, step.check) == (BROKEN, Check.STATE)
    assert "is no directory" in step.seen
    assert "another state directory" in str(step.fix)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_cured_by_room_and_by_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Of the state and of an output: neither is to be told to let this user write, who may."""

    def fill(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fill)
    state = check_state(settings_in(tmp_path))
    unwritable = why_unwritable(tmp_path / "lake")

    room = f"make room on the disk of {tmp_path}"
    assert (state.verdict, state.fix) == (BROKEN, f"{room}, or set another state directory")
    assert unwritable == (os.strerror(number).lower(), room)


def test_a_ledger_in_use_is_told_and_not_disturbed(tmp_path: Path) -> None:
    """By whom; its lock is there afterwards, for the one who holds it."""
    settings = settings_in(tmp_path)
    ledger = SqliteLedger(settings.state_directory, outputs=frozenset({"lake"}), now=SystemClock().now())
    try:
        held = check_state(settings)
        again = check_state(settings)
    finally:
        ledger.close()
    free = check_state(settings)

    assert held == again
    assert f"in use by pid {os.getpid()} on " in held.seen
    assert (held.verdict, free.verdict) == (OK, OK)
    assert "not in use" in free.seen


def test_a_ledger_of_another_version_is_found(tmp_path: Path) -> None:
    """A run would refuse it."""
    settings = settings_in(tmp_path)
    with closing(open_ledger(settings.state_directory / LEDGER_FILE)) as ledger:
        ledger.execute(f"PRAGMA user_version = {LEDGER.version - 1}")

    step = check_state(settings)

    assert step.verdict is BROKEN
    assert f"has schema {LEDGER.version - 1}" in step.seen


def test_a_ledger_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    """A run would set it aside."""
    settings = settings_in(tmp_path)
    settings.state_directory.mkdir()
    (settings.state_directory / LEDGER_FILE).write_bytes(b"no ledger at all" * 100)
    step = check_state(settings)

    assert step.verdict is BROKEN
    assert step.fix


def test_a_state_that_is_not_kept_is_a_note(tmp_path: Path) -> None:
    """The next run reads and delivers all again."""
    step = check_state(replace(settings_in(tmp_path), keeps_state=False))

    assert step.verdict is NOTE


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(100 * GIBIBYTE, OK), (4 * GIBIBYTE, NOTE), (GIBIBYTE, BROKEN), (100 * MEBIBYTE, BROKEN)],
)
def test_a_disk_has_to_hold_the_queues(tmp_path: Path, free: int, verdict: object) -> None:
    """Two outputs, a gibibyte each; some gibibytes more are wanted."""
    outputs = {name: {"type": "files", "config": {"directory": name}} for name in ("one", "two")}
    [step] = check_disks(settings_in(tmp_path, outputs), lambda _folder: free)

    assert step.verdict is verdict
    assert "the queues may come to need 2.0 GB" in step.seen
    assert step.subject == "state, output one, output two"


def test_what_a_queue_holds_already_is_not_needed_again(tmp_path: Path) -> None:
    """And an output that stands alone and is a disk of its own has no queue; the detections have one."""
    outputs = {"one": {"type": "files", "config": {"directory": "one"}}, "two": SYSLOG}
    settings = settings_in(tmp_path, outputs, queue_max_size_in_mb=10)
    folder = settings.state_directory / "queues" / "one"
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(b"x" * MEBIBYTE)

    assert queue_bytes_needed(settings) == 19 * MEBIBYTE
    alone = settings_in(tmp_path / "alone", queue_max_size_in_mb=10)
    assert queue_bytes_needed(alone) == 10 * MEBIBYTE
    assert queue_bytes_needed(replace(alone, detections=DetectionsSection())) == 0
    assert free_bytes(tmp_path) > 0


def test_what_the_kernel_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older kernel knows no such call; without a lake nobody asks SQL."""
    settings = settings_in(tmp_path)
    lake = lake_in(tmp_path / "lake")
    monkeypatch.setattr(confinement, "_LANDLOCK_CREATE", 999)

    told = check_confinement(replace(settings, outputs=(lake,)))[0]

    assert told.verdict == NOTE
    assert "missing: Landlock" in str(told.seen)
    assert "Linux 5.13" in str(told.fix)
    assert check_confinement(replace(settings, outputs=())) == []


def test_places_that_others_can_change_are_told(tmp_path: Path) -> None:
    """A note with the command that mends it."""
    settings = settings_in(tmp_path)
    settings.path.write_text("")
    settings.path.chmod(0o666)
    exposed = check_permissions(settings)
    settings.path.chmod(0o600)

    assert [(step.verdict, step.fix) for step in exposed] == [(NOTE, f"run: chmod go-w {settings.path}")]
    assert [step.verdict for step in check_permissions(settings)] == [OK]


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that every account of the machine may enter, as no folder of pytest's is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_lake_that_others_can_read_is_told(passable: Path) -> None:
    """As one from an earlier version; an operator may open a folder in which all is closed."""
    settings = settings_in(passable, LAKE)
    audit = open_lake(passable)
    exposed = check_permissions(settings)
    audit.chmod(0o750)

    assert [(step.verdict, step.fix) for step in exposed] == [(NOTE, f"run: chmod o-rwx {passable / 'lake'}")]
    assert [step.verdict for step in check_permissions(settings)] == [OK]


def test_a_lake_in_a_folder_that_is_closed_to_others_is_closed(passable: Path) -> None:
    """Whatever its own rights say: so it is for all who followed the tutorials, and in the image."""
    (mine := passable / "mine").mkdir()
    open_lake(mine)
    settings = settings_in(mine, LAKE)
    mine.chmod(0o755)
    exposed = check_permissions(settings)
    mine.chmod(0o700)

    assert [step.verdict for step in exposed] == [NOTE]
    assert [step.verdict for step in check_permissions(settings)] == [OK]


def open_lake(folder: Path) -> Path:
    """A lake as an earlier version has made it; the folder of its records."""
    (audit := folder / "lake" / AUDIT).mkdir(parents=True)
    (folder / "lake").chmod(0o755)
    audit.chmod(0o755)
    return audit


def test_what_is_odd_about_the_configuration_is_a_note(tmp_path: Path) -> None:
    """Each warning of the file on a line of its own."""
    settings = replace(settings_in(tmp_path), warnings=("one thing", "another"))
    first, *rest = check_configuration(settings)

    assert (first.verdict, "1 tenant; outputs: lake" in first.seen) == (OK, True)
    assert [(step.verdict, step.seen) for step in rest] == [(NOTE, "one thing"), (NOTE, "another")]


def test_every_mistake_of_a_configuration_is_told_and_nothing_else_looked_at() -> None:
    """All of them in one go, each with where it is."""
    found = refused(SettingsRefused(["one", "two"], where="c.json", fix="mend it"))
    [group] = found.groups

    assert found.is_refused
    assert [(step.seen, step.fix) for step in group.steps[:2]] == [
        ("c.json: one", "mend it"),
        ("c.json: two", "mend it"),
    ]
    assert {step.verdict for step in group.steps[2:]} == {SKIPPED}
    assert list(group.steps[2:]) == all_skipped(list(Check)[1:], Check.CONFIGURATION)


@pytest.mark.parametrize(
    ("days", "verdict", "text"),
    [
        (100, OK, "in 100 days"),
        (20, NOTE, "in 20 days"),
        (-1, BROKEN, "expired at 2026-11-23 12:00 UTC"),
        (None, OK, "no collector has asked Graph yet; set client_secret_expires_at in inputs.office365"),
    ],
)
def test_a_secrets_life_is_known_where_somebody_said_it(
    tmp_path: Path, days: int | None, verdict: object, text: str
) -> None:
    """A note from 30 days before its end on."""
    ends_at = None if days is None else NOW + timedelta(days=days)
    secret = client_secret("a-secret", expires_at=ends_at)
    tenant = replace(settings_in(tmp_path).tenants[0], credentials=(secret,))
    [step] = check_lives(tenant, known_now(tenant, tmp_path / LEDGER_FILE), NOW)

    assert step.verdict is verdict
    assert text in step.seen


def test_a_certificates_life_is_in_its_file(tmp_path: Path) -> None:
    """Its end is told; one that cannot be read is broken, and names no password."""
    issued = Authority(tmp_path).issue("app", lasts=timedelta(days=10, hours=1))
    broken = tmp_path / "broken.pfx"
    broken.write_bytes(b"not a bundle")
    tenant = replace(
        settings_in(tmp_path).tenants[0],
        credentials=(
            certificate(issued.cert, key=issued.key),
            certificate(broken, password="s3cret-pass", name="second.certificate_file"),
            certificate(tmp_path / "absent.pem"),
            federated_token(tmp_path / "token"),
            managed_identity(),
        ),
    )
    steps = check_lives(tenant, known_now(tenant, tmp_path / LEDGER_FILE), SystemClock().now())

    assert [step.verdict for step in steps] == [NOTE, BROKEN, BROKEN, OK, OK]
    assert "in 10 days" in steps[0].seen
    assert "is not there" in steps[2].seen
    assert "s3cret-pass" not in str(steps)
    assert [step.subject for step in steps] == [
        "certificate_file",
        "second.certificate_file",
        "certificate_file",
        "federated_token_file",
        "managed_identity",
    ]
