"""This machine: the configuration and the files that it names, the state directory, the disks."""

from __future__ import annotations

import shlex
import shutil
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from m365watch.common.errors import LedgerUnusable, NeedsOperator
from m365watch.common.file_access import is_there, nearest_folder, why_unwritable
from m365watch.config.models.settings import DETECTIONS, Settings
from m365watch.config.models.webhook import WebhookSection
from m365watch.lake.sql_sandbox.confinement import CONFINEMENT_FIX, is_root, probe
from m365watch.ledger.lock import LOCK_FILE, holder_of
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.pipeline.disk_queue import QUEUES_FOLDER
from m365watch.registry.checks import Check, Checked, bad, good, odd
from m365watch.registry.output_specs import LAKE
from m365watch.sources.management_api.webhook.webhook_server import load_context

_PORT_FIX = "set globals.webhook.listen to a free port of this machine"


def check_webhook(settings: Settings) -> list[Checked]:
    """Whether a run could listen; nothing where it is not to. Waits for the disk and the system alone.

    Whether Microsoft reaches the address shows only once a run starts a subscription with it.
    """
    webhook = settings.webhook
    if webhook is None:
        return []
    place = f"{webhook.host}:{webhook.port}"
    leads = f"{webhook.address} has to lead there"
    try:
        load_context(webhook)
    except NeedsOperator as error:
        return [bad(Check.WEBHOOK, f"{error.where}: {error.what}", fix=error.fix)]
    reason = _refusal_of(webhook)
    if reason is None:
        return [good(Check.WEBHOOK, f"{place} can be listened at; {leads}")]
    holder = holder_of(settings.state_directory / LOCK_FILE)
    if holder is not None:
        return [odd(Check.WEBHOOK, f"{place} is in use, it seems by the collector that is running; {leads}")]
    return [bad(Check.WEBHOOK, f"{place} cannot be listened at: {reason}", fix=_PORT_FIX)]


def _refusal_of(webhook: WebhookSection) -> str | None:
    """Why the port cannot be had; None where it can."""
    try:
        found = socket.getaddrinfo(webhook.host, webhook.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind(address)
                one.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30
ROOM_LEAST_BYTES = 256 * MEBIBYTE
"""Less free space than this on a disk that is written to is no room to work in."""
ROOM_WANTED_BYTES = 5 * GIBIBYTE
"""Less than this beyond what the queues may need is worth a note."""
_OTHERS_CAN_CHANGE = 0o022
_OTHERS_CAN_ENTER = 0o005
_OTHERS_CAN_PASS = 0o001

FreeBytes = Callable[[Path], int]
"""The bytes that this user may still write on the disk of a folder that is there."""


def free_bytes(folder: Path) -> int:
    """As the system says."""
    return shutil.disk_usage(folder).free


def check_configuration(settings: Settings) -> list[Checked]:
    """What the file sets, and what is odd about it."""
    outputs = ", ".join(one.name for one in settings.outputs)
    number = len(settings.tenants)
    tenants = "1 tenant" if number == 1 else f"{number:,} tenants"
    seen = f"{settings.path}: {tenants}; outputs: {outputs}"
    return [
        good(Check.CONFIGURATION, seen),
        *(odd(Check.CONFIGURATION, warning) for warning in settings.warnings),
    ]


def check_permissions(settings: Settings) -> list[Checked]:
    """Whether others can change what the collector goes by, or read its lake; secrets were judged before."""
    changed = [path for path in (settings.path, settings.state_directory) if _mode(path) & _OTHERS_CAN_CHANGE]
    told = [
        odd(Check.PERMISSIONS, f"others can change {path}", fix=f"run: chmod go-w {shlex.quote(str(path))}")
        for path in changed
    ]
    told += [
        odd(
            Check.PERMISSIONS,
            f"others can read records in {lake}",
            fix=f"run: chmod o-rwx {shlex.quote(str(lake))}",
        )
        for lake in (one.folder for one in settings.outputs if one.type == LAKE)
        if lake is not None and _is_open_to_others(lake)
    ]
    return told or [good(Check.PERMISSIONS, "others can change neither configuration nor state")]


def check_confinement(settings: Settings) -> list[Checked]:
    """What the kernel offers to confine SQL queries, where there is a lake."""
    if settings.lake_directory is None:
        return []
    found = probe()
    steps = [
        good(Check.PERMISSIONS, found.text)
        if found.is_complete
        else odd(Check.PERMISSIONS, found.text, fix=CONFINEMENT_FIX)
    ]
    if is_root() and not found.is_complete:
        steps.append(odd(Check.PERMISSIONS, "this runs as root", fix="run it as the owner of the lake"))
    return steps


def _is_open_to_others(lake: Path) -> bool:
    """Whether accounts that are neither the owner nor of the group get at what is in the lake."""
    above = lake.resolve().parents
    # Both: a folder that an operator made may be open, as long as what is in it is not.
    is_open = _mode(lake) & _mode(lake / "audit") & _OTHERS_CAN_ENTER
    return bool(is_open) and all(_mode(folder) & _OTHERS_CAN_PASS for folder in above)


def _mode(path: Path) -> int:
    """The permissions of the file; 0 where there is none, which others tell."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def check_state(settings: Settings) -> Checked:
    """Whether a run could keep its ledger here; one that does so now is not disturbed."""
    folder = settings.state_directory
    if not settings.keeps_state:
        return odd(Check.STATE, "is kept in a temporary folder: the next run reads all of it again")
    failure = why_unwritable(folder)
    if failure is not None:
        fix = f"{failure.fix}, or set another state directory"
        return bad(Check.STATE, f"{folder} cannot be written: {failure.why}", fix=fix)
    if not is_there(folder / LEDGER_FILE):
        return good(Check.STATE, f"{folder} can be written; there is no ledger yet")
    try:
        holder = holder_of(folder / LOCK_FILE)
        with ledger_for_reading(folder / LEDGER_FILE):
            pass
    except LedgerUnusable as error:
        return bad(Check.STATE, f"{folder}: {error.what}", fix=error.fix)
    except OSError as error:
        fix = f"let this user read and write what is in {folder}, or run as its owner"
        return bad(Check.STATE, f"{folder}: {(error.strerror or 'unknown').lower()}", fix=fix)
    working = f"in use by {holder}" if holder else "not in use"
    return good(Check.STATE, f"{folder} can be written; its ledger is {working}")


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
