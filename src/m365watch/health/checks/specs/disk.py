"""The room on each disk that a run writes to, against what its queues may come to need."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from m365watch.common.file_access import nearest_folder
from m365watch.config.models.detections import DETECTIONS
from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import CheckSpec, FreeBytes, Surface, free_bytes
from m365watch.pipeline.disk_queue import QUEUES_FOLDER
from m365watch.registry.checks import Check, Checked, bad, good, odd

MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30
ROOM_LEAST_BYTES = 256 * MEBIBYTE
"""Less free space than this on a disk that is written to is no room to work in."""
ROOM_WANTED_BYTES = 5 * GIBIBYTE
"""Less than this beyond what the queues may need is worth a note."""


@dataclass(slots=True)
class _Disk:
    """What is to be written on one file system."""

    folder: Path
    uses: list[str] = field(default_factory=list)
    need_bytes: int = 0


def check_disks(settings: Settings, free: FreeBytes = free_bytes) -> list[Checked]:
    """The room on each disk that a run writes to, against what its queues may come to need."""
    return [_judge_disk(disk, free(disk.folder)) for disk in _disks(settings)]


def _disks(settings: Settings) -> list[_Disk]:
    uses: list[tuple[str, Path, int]] = []
    if settings.keeps_state:
        uses.append(("state", settings.state_directory, queue_bytes_needed(settings)))
    uses += [(f"output {one.name}", one.folder, 0) for one in settings.outputs if one.folder is not None]
    disks: dict[int, _Disk] = {}
    for use, path, need_bytes in uses:
        folder = nearest_folder(path)
        disk = disks.setdefault(folder.stat().st_dev, _Disk(folder))
        disk.uses.append(use)
        disk.need_bytes += need_bytes
    return list(disks.values())


def _judge_disk(disk: _Disk, free: int) -> Checked:
    subject = ", ".join(disk.uses)
    seen = f"{amount(free)} free on the disk of {disk.folder}"
    if disk.need_bytes:
        seen += f"; the queues may come to need {amount(disk.need_bytes)}"
    fix = "make room, put it on another disk, or lower globals.queue_max_size_in_mb"
    if free < max(disk.need_bytes, ROOM_LEAST_BYTES):
        return bad(Check.DISK, seen, fix=fix, subject=subject)
    if free < disk.need_bytes + ROOM_WANTED_BYTES:
        return odd(Check.DISK, seen, fix=fix, subject=subject)
    return good(Check.DISK, seen, subject=subject)


def queue_bytes_needed(settings: Settings) -> int:
    """What the outputs' queues may still take: one that stands alone and is no wire has none."""
    queued = (
        settings.outputs
        if len(settings.outputs) > 1
        else [one for one in settings.outputs if one.waits_on_disk]
    )
    names = [*(one.name for one in queued), *([DETECTIONS] if settings.detections.enabled else [])]
    folder = settings.state_directory / QUEUES_FOLDER
    return sum(max(0, settings.queue_bytes_max - _bytes_in(folder / name)) for name in names)


def _bytes_in(folder: Path) -> int:
    """What lies in a queue now; files that go meanwhile do not count."""
    total = 0
    try:
        for path in folder.iterdir():
            total += path.stat().st_size
    except OSError:
        pass
    return total


def amount(size_bytes: int) -> str:
    """`12 MB`, `3.4 GB`, with the prefixes of 1,024."""
    if size_bytes < GIBIBYTE:
        return f"{size_bytes / MEBIBYTE:,.0f} MB"
    return f"{size_bytes / GIBIBYTE:,.1f} GB"


SPEC = CheckSpec(
    type="disk",
    rank=50,
    text="The room on each disk against what the queues may come to need (`queue_max_size_in_mb` for each "
    "output). Less than that, or than 256 MB, is broken; less than 5 GB beyond it is a note.",
    look=lambda it: check_disks(it.settings, it.free),
    shown=frozenset(Surface),
)
