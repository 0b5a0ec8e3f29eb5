"""A process that confines itself to a lake and then tries to get out: what came of it, as JSON."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from m365watch.lake.sql_sandbox.confinement import confine

lake = Path(sys.argv[1])
parent = os.getppid()
TGKILL = {"x86_64": 234, "aarch64": 131}
PTRACE = {"x86_64": 101, "aarch64": 117}
CLONE3, FILE_SETATTR = 435, 469
F_SETSIG, F_SETOWN_EX, F_OWNER_PID, FIOSETOWN = 10, 15, 1, 0x8901


def start_thread() -> None:
    """Threads may start."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def call(number: int, *arguments: int) -> None:
    """Make a system call."""
    call_libc("syscall", number, *arguments)


def call_libc(name: str, *arguments: int) -> None:
    """Make a call of the C library, which knows the numbers of system calls."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*map(ctypes.c_long, arguments)) == -1:
        raise OSError(ctypes.get_errno(), "refused")


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read the lake": (lake / "file").read_bytes,
    "read a table behind a link": (lake / "table" / "file").read_bytes,
    "list the lake": lambda: list(lake.iterdir()),
    "start a thread": start_thread,
    "lower an own limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "write the lake": lambda: (lake / "new").write_bytes(b""),
    "remove from the lake": (lake / "file").unlink,
    "change the permissions of the lake": lambda: lake.chmod(0o777),
    "change the times of a file": lambda: os.utime(lake / "file"),
    "read beside the lake": (lake.parent / "beside").read_bytes,
    "read /etc/passwd": Path("/etc/passwd").read_bytes,
    "list /": lambda: list(Path("/").iterdir()),
    "cut a file short": lambda: os.truncate(lake / "file", 0),
    "socket": socket.socket,
    "send a datagram": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(
        b"x", "/dev/log"
    ),
    "fork": os.fork,
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "ptrace": lambda: call(PTRACE[platform.machine()], 0, 0, 0, 0),
    "signal the parent": lambda: os.kill(parent, 0),
    "have the parent signalled of a file": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
    "by another of its threads": lambda: fcntl.fcntl(0, F_SETOWN_EX, struct.pack("ii", F_OWNER_PID, parent)),
    "by a socket": lambda: fcntl.ioctl(socket.socketpair()[0], FIOSETOWN, struct.pack("i", parent)),
    "by another signal": lambda: fcntl.fcntl(0, F_SETSIG, signal.SIGTERM),
    "attach shared memory": lambda: call_libc("shmat", -1, 0, 0),
    "end shared memory": lambda: call_libc("shmctl", -1, 0, 0),
    "raise a semaphore": lambda: call_libc("semop", -1, 0, 0),
    "wait for a semaphore": lambda: call_libc("semtimedop", -1, 0, 0, 0),
    "end a semaphore": lambda: call_libc("semctl", -1, 0, 0),
    "send a message": lambda: call_libc("msgsnd", -1, 0, 0, 0),
    "receive a message": lambda: call_libc("msgrcv", -1, 0, 0, 0, 0),
    "end a queue": lambda: call_libc("msgctl", -1, 0, 0),
    "set a flag of an own file": lambda: fcntl.fcntl(0, fcntl.F_SETFD, 0),
    "signal a thread of the parent": lambda: call(TGKILL[platform.machine()], parent, parent, 0),
    "limit the parent": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
    "clone3": lambda: call(CLONE3, 0, 0),
    "a newer system call": lambda: call(FILE_SETATTR, -1, 0, 0, 0, 0),
}

confine(lake)
outcomes: dict[str, str] = {}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
        outcomes[name] = "done"
    except OSError as error:
        outcomes[name] = errno.errorcode[error.errno or 0]
sys.stdout.write(json.dumps(outcomes))
