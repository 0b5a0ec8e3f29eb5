"""Kernel confinement of the SQL process: whatever a library in it does, it can only read the lake.

Source: landlock(7), seccomp(2), prctl(2), capset(2), syscalls(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.child_process import checked, forbid_dumps, libc, prctl

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x20080522

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
"""System calls that have the same numbers on every processor."""
_LANDLOCK_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""The number of file rights that Landlock knows, by the ABI that extended it."""
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_READ_BY_LIBRARIES = (
    "/proc/self/status",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/usr/share/zoneinfo",
)
"""What the process and its libraries read beside the lake: limits of memory, number of cores, time zones."""

_DENIED = {
    # Network; of a pair of datagram sockets, which needs no `connect`, the sending.
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # Programs and processes.
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    # Other processes of the same user, which are the board and the collector.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # What Landlock leaves to a file's owner: permissions, times, attributes, and before ABI 3 the size.
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    # Parts of the kernel that no query needs and that many exploits of it began with.
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
"""System calls that fail, with their numbers on x86_64 and aarch64."""
_CLONE, _TGKILL, _PRLIMIT = (56, 220), (234, 131), (302, 261)
_DENIED_COMMANDS = {(72, 25): (8, 10, 15), (16, 29): (0x8901, 0x8902)}
"""By which another process is signaled that a file is ready: F_SETOWN, F_SETSIG and F_SETOWN_EX of `fcntl`,
FIOSETOWN and SIOCSPGRP of `ioctl`."""
_CLONE3 = 435
_NEWEST = 462
"""The last system call that was considered for `_DENIED`; x32's numbers are larger as well."""
_CLONE_THREAD = 0x00010000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""In the order of the numbers above; names as `uname -m` has them, values of linux/audit.h."""

CONFINEMENT_FIX = "run on Linux 5.13 or newer (x86_64, aarch64) and allow Landlock and seccomp there"

_LOAD, _EQUAL, _GREATER, _HAS_BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
"""Offsets in the data that a filter sees; of an argument the lower half, on little-endian processors."""
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


@dataclass(frozen=True, slots=True)
class Confinement:
    """The features of this kernel that confine the SQL process."""

    privileges: bool = False
    """No new privileges, no capabilities."""
    landlock_abi: int = 0
    """Landlock's version; 0 where there is none."""
    seccomp: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the kernel has all of them."""
        return self.privileges and self.landlock_abi > 0 and self.seccomp

    @property
    def held(self) -> str:
        """The features that are there; empty where there is none."""
        return ", ".join(name for name, is_there in self._features() if is_there)

    @property
    def text(self) -> str:
        """What holds and what is missing, on one line."""
        missing = ", ".join(name for name, is_there in self._features() if not is_there)
        held = self.held
        text = (
            f"the kernel confines SQL queries: {held}" if held else "the kernel does not confine SQL queries"
        )
        return f"{text}; missing: {missing}" if missing else text

    def _features(self) -> list[tuple[str, bool]]:
        landlock = f"Landlock ABI {self.landlock_abi}" if self.landlock_abi else "Landlock"
        return [
            ("no privileges", self.privileges),
            (landlock, self.landlock_abi > 0),
            ("seccomp", self.seccomp),
        ]


def probe() -> Confinement:
    """What this kernel offers; changes nothing."""
    if sys.platform != "linux":
        return Confinement()
    return Confinement(privileges=True, landlock_abi=_landlock_abi(), seccomp=_has_seccomp())


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def confine(lake: Path) -> None:
    """Leave this process nothing but its memory, its threads and reading the lake, for good.

    Landlock and capabilities are a thread's own: call it while there is one thread. Root becomes the owner of
    the lake, as without capabilities it could not read the files of another user.

    Raises: OSError: the kernel has a feature and refuses it.
    """
    found = probe()
    if is_root():
        with suppress(OSError):  # a container may have kept root from it
            _become_owner_of(lake)
    forbid_dumps()
    if found.privileges:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _drop_capabilities()
    if found.landlock_abi:
        _restrict_files(lake, found.landlock_abi)
    if found.seccomp:
        _restrict_calls()


def _become_owner_of(lake: Path) -> None:
    # The folder itself may be a volume that the machine's root has mounted.
    owner = next(filter(Path.is_dir, lake.iterdir()), lake).stat()
    if owner.st_uid != os.geteuid():
        os.setgroups([])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)


def _drop_capabilities() -> None:
    """Drop all of them; a service whose filter refuses the call has none.

    Raises: OSError: the call is refused, and there are some.
    """
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
    held = ctypes.create_string_buffer(24)
    checked(libc().capget(header, held))
    if any(held.raw):
        checked(libc().capset(header, bytes(24)))


def _landlock_abi() -> int:
    try:
        return _syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION)
    except OSError:
        return 0


def _restrict_files(lake: Path, abi: int) -> None:
    rights = next(number for since, number in reversed(_FILE_RIGHTS.items()) if abi >= since)
    handled = struct.pack("Q", (1 << rights) - 1)
    if abi >= _NETWORK_SINCE:
        handled += struct.pack("Q", 0b11)
    if abi >= _SCOPES_SINCE:
        handled += struct.pack("Q", 0b11)
    ruleset = _syscall(_LANDLOCK_CREATE, handled, len(handled), 0)
    # An operator may have moved a table to another disk and left a link.
    tables = [path for path in lake.iterdir() if path.is_symlink()]
    for path in (lake, *tables, *map(Path, _READ_BY_LIBRARIES)):
        with suppress(FileNotFoundError):
            # Left open: /proc forgets its files, and a rule is for the one that was opened.
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
            _syscall(_LANDLOCK_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, opened), 0)
    _syscall(_LANDLOCK_RESTRICT, ruleset, 0)


def _has_seccomp() -> bool:
    """Whether the kernel takes a filter: it then misses the one that is not given."""
    try:
        prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER)
    except OSError as refusal:
        return refusal.errno == errno.EFAULT and platform.machine() in _ARCHITECTURES
    return False


def _restrict_calls() -> None:
    program = b"".join(struct.pack("HBBI", *step) for step in _plan_filter(platform.machine()))
    held = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held)))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))


def _plan_filter(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter in classic BPF: operation, steps to skip if true, if false, operand."""
    column = list(_ARCHITECTURES).index(machine)
    allow = (_RETURN, 0, 0, _ALLOW)
    deny, unknown = (_RETURN, 0, 0, _FAIL | errno.EPERM), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER, 0, 1, _NEWEST),
        unknown,
        # Its arguments cannot be seen; the C library then uses `clone`.
        (_EQUAL, 0, 1, _CLONE3),
        unknown,
    ]
    for numbers in _DENIED.values():
        if (denied := numbers[column]) is not None:
            steps += [(_EQUAL, 0, 1, denied), deny]
    # Threads may start, processes may not; signals and limits are for this process alone.
    for numbers, test, wanted in (
        (_CLONE, _HAS_BITS, _CLONE_THREAD),
        (_TGKILL, _EQUAL, os.getpid()),
        (_PRLIMIT, _EQUAL, 0),
    ):
        steps += [
            (_EQUAL, 0, 4, numbers[column]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (test, 0, 1, wanted),
            allow,
            deny,
        ]
    for numbers, commands in _DENIED_COMMANDS.items():
        last = len(commands)
        steps += [(_EQUAL, 0, last + 3, numbers[column]), (_LOAD, 0, 0, _SECOND_ARGUMENT)]
        steps += [(_EQUAL, last - done, 0, command) for done, command in enumerate(commands)]
        steps += [allow, deny]
    return [*steps, allow]


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return checked(libc().syscall(ctypes.c_long(number), *given))
