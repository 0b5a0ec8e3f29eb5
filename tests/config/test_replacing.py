"""A configuration's file is the old one or the new one, and its owner's as before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import NeedsOperator, SettingsRefused
from m365watch.config.config_file import read_whole, replace_whole
from m365watch.config.editor.tenants import check_text, read_application, with_tenant

ONE = "0a1b2c3d-0000-4000-8000-00000000000a"
TEXT = f"""\
inputs:
  a:
    type: office365
    credentials:
      tenant_id: "<tenant>"
      client_id: {ONE}
"""
SECRET = "      client_secret: ${M365_SECRET}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m365watch.yaml"
    path.write_bytes((TEXT + SECRET).encode())
    path.chmod(0o640)
    return path


def test_what_comes_by_a_pipe_is_not_changed() -> None:
    """Nor is it said that there is no such file."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(SettingsRefused, match="comes by a pipe, into which no change can be written"):
            read_whole(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
        os.close(writing)


@guarantee(31)
def test_mode_and_owner_stay_and_nothing_is_left_beside(file: Path) -> None:
    """The folder holds one file afterwards, as before."""
    before = file.stat()

    replace_whole(read_whole(file), "# new\n")

    after = file.stat()
    assert file.read_text() == "# new\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [*file.parent.iterdir()] == [file]


def test_a_byte_order_mark_stays(file: Path) -> None:
    """It is no part of the text, and part of the file."""
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())

    old = read_whole(file)
    replace_whole(old, with_tenant(old, None, ONE))

    assert file.read_bytes() == b"\xef\xbb\xbf" + TEXT.replace("<tenant>", ONE).encode()


def test_a_link_stays_a_link(file: Path) -> None:
    """What it leads to is replaced."""
    link = file.with_name("link.yaml")
    link.symlink_to(file.name)

    replace_whole(read_whole(link), "# new\n")

    assert link.is_symlink()
    assert file.read_text() == "# new\n"


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(file: Path) -> None:
    """Their change is theirs, and ours is made again."""
    old = read_whole(file)
    file.write_text("# theirs\n")

    with pytest.raises(NeedsOperator, match="changed by somebody else"):
        replace_whole(old, "# ours\n")

    assert file.read_text() == "# theirs\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_leaves_the_file(file: Path) -> None:
    """One line says so."""
    file.parent.chmod(0o500)
    try:
        with pytest.raises(NeedsOperator, match="cannot be replaced"):
            replace_whole(read_whole(file), "# new\n")
    finally:
        file.parent.chmod(0o700)

    assert file.read_bytes() == (TEXT + SECRET).encode()


def test_a_file_that_is_not_there_names_the_command_that_makes_one(tmp_path: Path) -> None:
    """The hint can be pasted."""
    with pytest.raises(SettingsRefused) as refused:
        read_whole(tmp_path / "no file.yaml")

    assert refused.value.fix == f"write one with: m365watch init --out '{tmp_path}/no file.yaml'"


def test_an_input_without_a_tenant_can_be_asked_for_its_application(file: Path) -> None:
    """Consent comes before the tenant is known; the secret has to be there only if it is used."""
    whole = read_whole(file)

    application = read_application(whole, None, environment={}, for_reading=True)

    assert (application.input_name, application.client_id, application.cloud.name) == ("a", ONE, "worldwide")
    with pytest.raises(SettingsRefused, match="M365_SECRET"):
        read_application(whole, None, environment={})


def test_an_input_that_is_switched_off_is_not_asked(file: Path) -> None:
    """The line says what to do."""
    file.write_text((TEXT + SECRET).replace("    type:", "    enabled: false\n    type:"))

    with pytest.raises(SettingsRefused, match=r"switched off|no input"):
        read_application(read_whole(file), None, environment={}, for_reading=True)


@guarantee(31)
def test_what_does_not_load_is_refused_with_every_mistake(file: Path) -> None:
    """A tenant of one input may be another's already."""
    file.write_text(TEXT + SECRET + "      whatever: 1\n      client_idd: 2\n")
    whole = read_whole(file)

    with pytest.raises(SettingsRefused) as refused:
        check_text(whole, with_tenant(whole, None, ONE), environment={})

    assert len(refused.value.mistakes) == 2
