"""System calls of which the process that runs SQL makes none, tried from within it when its query is done.

As `sitecustomize` it is imported by each Python process; only one that another has started tries anything.
Source: asm/unistd_64.h of x86_64 and of aarch64.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import json
import os

PIPE, STARTED_BY = "PYTHON_REFUSED_CALLS", "PYTHON_STARTED_BY"
"""Variables: the pipe for the outcomes, which is opened before anything is confined; the first process."""
NUMBERS = """
socket 41 198, connect 42 203, accept 43 202, accept4 288 242, bind 49 200, listen 50 201, sendto 44 206,
sendmsg 46 211, sendmmsg 307 269, execve 59 221, execveat 322 281, fork 57 -, vfork 58 -, ptrace 101 117,
process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, process_mrelease 448 448,
kcmp 312 272, kill 62 129, tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
pidfd_open 434 434, pidfd_getfd 438 438, pidfd_send_signal 424 424, setpriority 141 140, ioprio_set 251 30,
sched_setaffinity 203 122, sched_setparam 142 118, sched_setscheduler 144 119, sched_setattr 314 274,
migrate_pages 256 238, move_pages 279 239, shmget 29 194, shmat 30 196, shmctl 31 195, msgget 68 186,
msgsnd 69 189, msgrcv 70 188, msgctl 71 187, semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192,
mq_open 240 180, mq_unlink 241 181, truncate 76 45, chmod 90 -, fchmod 91 52, fchmodat 268 53,
fchmodat2 452 452, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54, utime 132 -, utimes 235 -,
futimesat 261 -, utimensat 280 88, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14,
lremovexattr 198 15, fremovexattr 199 16, io_uring_setup 425 425, bpf 321 280, perf_event_open 298 241,
userfaultfd 323 282, unshare 272 97, setns 308 268, mount 165 40, open_by_handle_at 304 265, add_key 248 217,
request_key 249 218, keyctl 250 219, clone 56 220, tgkill 234 131, prlimit64 302 261, fcntl 72 25,
ioctl 16 29, clone3 435 435, file_setattr 469 469
"""
SIGCHLD = 17
ARGUMENTS: dict[str, list[tuple[int, ...]]] = {
    "kill": [(os.getpid(), 0)],
    "msgget": [(-1, 0)],
    "clone": [(SIGCHLD, 0, 0, 0, 0)],
    "fcntl": [(-1, 8), (-1, 10), (-1, 15)],
    "ioctl": [(-1, 0x8901), (-1, 0x8902)],
}
"""Of calls that would succeed with -1 for each, or that are refused for some arguments alone."""


def outcomes() -> dict[str, list[str]]:
    """How each call ends. Without a filter none is refused: these arguments are wrong, or do no harm."""
    column = {"x86_64": 1, "aarch64": 2}[os.uname().machine]
    numbers = {words[0]: words[column] for words in map(str.split, NUMBERS.split(","))}
    return {
        name: [outcome(int(number), *given) for given in ARGUMENTS.get(name, [(-1,) * 6])]
        for name, number in numbers.items()
        if number != "-"
    }


def outcome(number: int, *arguments: int) -> str:
    """The name of the error, or empty."""
    libc, before = ctypes.CDLL(None, use_errno=True), os.getpid()
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if os.getpid() != before:
        os._exit(0)  # the call was not refused, and this is the process that it has made
    return errno.errorcode[ctypes.get_errno()] if result == -1 else ""


if PIPE in os.environ and os.environ.setdefault(STARTED_BY, str(os.getpid())) != str(os.getpid()):
    pipe = os.open(os.environ[PIPE], os.O_WRONLY)
    atexit.register(lambda: os.write(pipe, json.dumps(outcomes()).encode()))
