"""A real rsyslog on loopback, as Debian has it: started for a test, and stopped with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from patience import PATIENCE_S
from ports import datagram_port

from m365watch_testing.certificates import Authority

CLIENT = "m365watch-client"
"""The one name that the server takes a client certificate of."""

_PACKAGES = ("rsyslog", "rsyslog-openssl")
_PROGRAM = "/usr/sbin/rsyslogd"
_DRIVER = "rsyslog/lmnsd_ossl.so"
_INSTALL_S = 300
_START_S = PATIENCE_S
_STOP_S = PATIENCE_S

_CONFIGURATION = """
global(
    workDirectory="{folder}"
    maxMessageSize="1m"
    parser.escapeControlCharactersOnReceive="off"
    defaultNetstreamDriverCAFile="{chain}"
    defaultNetstreamDriverCertFile="{cert}"
    defaultNetstreamDriverKeyFile="{key}"
)
main_queue(
    queue.type="FixedArray" queue.size="20000" queue.timeoutEnqueue="60000" queue.timeoutShutdown="20000"
)
module(
    load="imtcp" streamDriver.name="ossl" streamDriver.mode="1"
    streamDriver.authMode="x509/name" permittedPeer=["{client}"]
)
module(load="imptcp")
module(load="imudp")
template(name="raw" type="string" string="%rawmsg%\\n")
template(name="read" type="string" string="%hostname% %app-name% %msgid% %pri%%msg%\\n")
ruleset(name="tls") {{ action(type="omfile" file="{folder}/tls.raw" template="raw") }}
ruleset(name="tcp") {{
    action(type="omfile" file="{folder}/tcp.raw" template="raw")
    action(type="omfile" file="{folder}/tcp.read" template="read")
}}
ruleset(name="udp") {{
    action(type="omfile" file="{folder}/udp.raw" template="raw")
    action(type="omfile" file="{folder}/udp.read" template="read")
}}
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/tls.port" ruleset="tls")
input(type="imptcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/tcp.port" ruleset="tcp")
input(type="imudp" address="127.0.0.1" port="{udp_port}" ruleset="udp" rcvbufSize="4m")
"""
"""As a receiver has to be set up: sizes as large as the sender's, nothing escaped, nothing dropped."""


def need_rsyslog() -> None:
    """Return once rsyslog and its TLS driver are there; install them where that can be done.

    Only one process of a test run installs; where nothing can be installed, the test is skipped, but not
    where every test has to run.
    """
    if _is_there():
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _give_up("rsyslog with its TLS driver is not here, and only root can install Debian's packages")
    lock = Path(tempfile.gettempdir()) / "m365watch-rsyslog.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not _is_there():
            _install()
    if not _is_there():
        _give_up("rsyslog with its TLS driver could not be installed")


def _is_there() -> bool:
    return Path(_PROGRAM).exists() and any(Path("/usr/lib").glob(f"*/{_DRIVER}"))


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    waits = ("-o", "DPkg::Lock::Timeout=120")
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *_PACKAGES]):
        subprocess.run(
            ["apt-get", *waits, *words], env=environment, timeout=_INSTALL_S, check=False, capture_output=True
        )


def _give_up(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Rsyslog:
    """Listens while entered; `stop` has it write down everything that it took."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        """Its files lie in `folder`; over TLS it takes clients that `authority` vouches for as `CLIENT`."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        server = authority.issue("localhost", names=["localhost", "127.0.0.1"])
        self.udp_port = datagram_port()
        self._configuration = folder / "rsyslog.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                chain=authority.chain,
                cert=server.cert,
                key=server.key,
                client=CLIENT,
                udp_port=self.udp_port,
            )
        )

    def __enter__(self) -> Self:
        """The server, listening."""
        arguments = ["-n", "-C", "-i", "NONE", "-f", str(self._configuration)]
        with (self._folder / "rsyslog.out").open("wb") as out:
            self._process = subprocess.Popen([_PROGRAM, *arguments], stdout=out, stderr=out)
        until_s = time.monotonic() + _START_S
        while not (self._has_port("tls") and self._has_port("tcp") and self._listens_to_datagrams()):
            assert self._process.poll() is None, self._said()
            assert time.monotonic() < until_s, f"rsyslog does not listen: {self._said()}"
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have it end, whatever it still does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def tls_port(self) -> int:
        """Where it speaks TLS and asks for a certificate."""
        return int((self._folder / "tls.port").read_text())

    @property
    def tcp_port(self) -> int:
        """Where it takes lines in the clear, framed in either way."""
        return int((self._folder / "tcp.port").read_text())

    def stop(self) -> None:
        """Ask it to end, and wait until it has written everything down.

        It ends without a look at the datagrams that the machine still holds for it, so those are waited for.
        """
        assert self._process is not None
        until_s = time.monotonic() + _STOP_S
        while self._waiting_datagram_bytes() > 0:
            assert time.monotonic() < until_s, f"rsyslog reads no datagrams: {self._said()}"
            time.sleep(0.01)
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(_STOP_S) == 0, self._said()

    def lines(self, name: str) -> list[bytes]:
        """The lines of one of its files: tls.raw, tcp.raw, tcp.read, udp.raw, udp.read."""
        *lines, rest = (self._folder / name).read_bytes().split(b"\n")
        assert rest == b""
        return lines

    def _has_port(self, name: str) -> bool:
        path = self._folder / f"{name}.port"
        return path.exists() and path.read_text().strip() not in {"", "0"}

    def _listens_to_datagrams(self) -> bool:
        """Whether the port of the datagrams is taken; to try it out could be in rsyslog's way."""
        return bool(self._datagram_rows())

    def _waiting_datagram_bytes(self) -> int:
        return sum(int(row[4].partition(":")[2], 16) for row in self._datagram_rows())

    def _datagram_rows(self) -> list[list[str]]:
        """What the machine's table of sockets says of the port of the datagrams (proc(5), /proc/net/udp)."""
        local = f"0100007F:{self.udp_port:04X}"
        rows = (row.split() for row in Path("/proc/net/udp").read_text().splitlines()[1:])
        return [row for row in rows if row[1] == local]

    def _said(self) -> str:
        return (self._folder / "rsyslog.out").read_text()
