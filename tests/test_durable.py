from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from m365watch.common.atomic_files import PRIVATE, put_file, sync_folder


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Nothing of the old one is left behind the end of a shorter new one, and nothing beside it."""
    path = tmp_path / "kept.json"
    put_file(path, [b"a long ", b"first text"])

    put_file(path, [b"short"])

    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_taken_over(tmp_path: Path) -> None:
    """A partial file was never anything's: neither its contents nor its mode stay."""
    left = tmp_path / "kept.partial"
    left.write_bytes(b"half of something longer")
    left.chmod(0o666)

    put_file(tmp_path / "kept.json", [b"whole"])

    assert (tmp_path / "kept.json").read_bytes() == b"whole"
    assert (tmp_path / "kept.json").stat().st_mode & 0o777 == PRIVATE
    assert not left.exists()


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """What gives the pieces may end early; the file is as it was."""

    def pieces() -> Iterator[bytes]:
        yield b"new, but"
        raise EOFError

    path = tmp_path / "kept.json"
    put_file(path, [b"old"])

    with pytest.raises(EOFError):
        put_file(path, pieces())

    assert path.read_bytes() == b"old"


def test_a_link_in_its_place_leads_nowhere(tmp_path: Path) -> None:
    """Whoever may put a link into the folder does not choose which file is overwritten."""
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    (tmp_path / "kept.partial").symlink_to(other)

    with pytest.raises(OSError) as refused:
        put_file(tmp_path / "kept.json", [b"ours"])
    assert refused.value.errno == errno.ELOOP

    assert other.read_bytes() == b"theirs"


def test_only_a_folder_has_names(tmp_path: Path) -> None:
    """A file in a folder's place is an error, and nothing that was made durable."""
    path = tmp_path / "file"
    path.write_bytes(b"")

    with pytest.raises(NotADirectoryError):
        sync_folder(path)
