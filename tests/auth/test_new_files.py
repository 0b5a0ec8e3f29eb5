from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.atomic_files import PUBLIC, NewFile, require_free, write_new_files
from m365watch.common.errors import NeedsOperator


@pytest.fixture(params=[0o000, 0o022, 0o077])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def pair(folder: Path, content: bytes = b"new") -> list[NewFile]:
    return [NewFile(folder / "a.key", content), NewFile(folder / "a.cer", content, PUBLIC)]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@guarantee(25)
@pytest.mark.usefixtures("_umask")
def test_a_private_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Whatever the shell's umask is; what is public can be read by all."""
    write_new_files(pair(tmp_path / "made" / "here"))

    assert mode_of(tmp_path / "made/here/a.key") == 0o600
    assert mode_of(tmp_path / "made/here/a.cer") == 0o644
    assert sorted(path.name for path in (tmp_path / "made/here").iterdir()) == ["a.cer", "a.key"]


@guarantee(25)
@pytest.mark.usefixtures("_umask")
def test_a_private_file_is_closed_before_anybody_can_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it open while it is empty reads what is written into it later."""
    modes = []

    def fchmod(descriptor: int, mode: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        os.chmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    write_new_files(pair(tmp_path))

    assert len(modes) == 2
    assert not [mode for mode in modes if mode & 0o077]


@guarantee(25)
@pytest.mark.parametrize("taken", ["a.key", "a.cer"])
def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path, taken: str) -> None:
    """Nor is any other of the files written then."""
    (tmp_path / taken).write_bytes(b"old")

    for write in (write_new_files, lambda files: require_free([file.path for file in files])):
        with pytest.raises(NeedsOperator, match="is there already") as caught:
            write(pair(tmp_path))
        assert caught.value.where == str(tmp_path / taken)
        assert "--force" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_bytes() == b"old"


def test_a_link_that_leads_nowhere_is_a_file_that_is_there(tmp_path: Path) -> None:
    """Through it, a key would be written somewhere else."""
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")

    for write in (write_new_files, lambda files: require_free([file.path for file in files])):
        with pytest.raises(NeedsOperator, match="is there already"):
            write(pair(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def test_where_it_is_asked_for_files_are_replaced_with_their_mode(tmp_path: Path) -> None:
    """A key that others could read is not one after that; a link is replaced, not followed."""
    (tmp_path / "a.key").write_bytes(b"old")
    (tmp_path / "a.key").chmod(0o644)
    (tmp_path / "target").write_bytes(b"other")
    (tmp_path / "a.cer").symlink_to(tmp_path / "target")

    write_new_files(pair(tmp_path), replaces=True)

    assert [(tmp_path / name).read_bytes() for name in ("a.key", "a.cer", "target")] == [
        b"new",
        b"new",
        b"other",
    ]
    assert mode_of(tmp_path / "a.key") == 0o600


@guarantee(25)
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", range(3))
def test_a_stop_at_any_write_leaves_no_draft_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int,
    fault: BaseException,
    *,
    replaces: bool,
) -> None:
    """A full disk and Ctrl-C, at each file and at each folder that reaches the disk."""
    before = {"a.key": b"old", "a.cer": b"old"} if replaces else {}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    left = [written]

    def fail(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise fault

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((NeedsOperator, KeyboardInterrupt)):
        write_new_files(pair(tmp_path), replaces=replaces)

    if written == 2 and replaces:
        before = dict.fromkeys(before, b"new")  # Both have their names by then.
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_is_a_file_is_named(tmp_path: Path, below: str) -> None:
    """The mistake is told of the place where it is."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(NeedsOperator, match="no such folder, but a file of that name") as caught:
        write_new_files(pair(tmp_path / below))
    assert caught.value.where.startswith(str(tmp_path / "file"))


def test_a_disk_that_is_full_is_told_of_the_file_and_not_of_its_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows the draft's name."""

    def fail(path: str | Path, *_: int) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(NeedsOperator, match="cannot be written: No space left on device") as caught:
        write_new_files(pair(tmp_path))
    assert caught.value.where == str(tmp_path / "a.key")


def test_the_content_is_no_part_of_what_is_shown() -> None:
    """A traceback or a log shows values."""
    assert "secret" not in repr(NewFile(Path("a"), b"secret"))
