"""Why a connection failed, in one line, and what a person can do about it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import NamedTuple

from m365watch.common.errors import OutputClosed, OutputUnavailable, OutputUnusable

_CLIENT_REFUSALS = (
    "CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
    "HANDSHAKE_FAILURE",
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_VERSIONS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE")
_EXPIRED = 10
_NOT_YET_VALID = 9
_NAME_MISMATCHES = (62, 64)
_WEAK_KEYS = (66, 67)
_WEAK_SIGNATURE = 68
_SEE_PORT = "set `port` to one where the receiver expects TLS"


class Why(NamedTuple):
    """What happened, and what a person has to do."""

    what: str
    fix: str | None = None
    """Without it nothing goes on."""
    by_peer: bool = False
    """Whether the peer ended a connection that was in use."""
    hint: str = ""
    """What ends it where it does not pass by itself."""

    def error(self, *, where: str) -> OutputUnavailable | OutputUnusable:
        """The public error for it, of the kind that says what happens next."""
        if self.fix is not None:
            return OutputUnusable(self.what, fix=self.fix, where=where)
        return (OutputClosed if self.by_peer else OutputUnavailable)(self.what, where=where, fix=self.hint)


class ConnectFailed(Exception):
    """No connection could be made; `why` says more."""

    def __init__(self, why: Why) -> None:
        """`why` is one line without an end."""
        super().__init__(why.what)
        self.why = why


class Broken(Exception):
    """A connection that was in use is of no more use; `why` says more."""

    def __init__(self, why: Why) -> None:
        """`why.by_peer`: the peer ended it; otherwise it took nothing any more."""
        super().__init__(why.what)
        self.why = why


def explain(error: Exception) -> Why:
    """What went wrong between two machines, in words that say what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error)
    if isinstance(error, ssl.SSLError):
        return _explain_tls(error)
    if isinstance(error, socket.gaierror):
        said = _lower(error.strerror or str(error))
        return Why(f"its name is not found ({said})", hint="correct `address`, or this machine's DNS")
    if isinstance(error, TimeoutError):
        return Why("no answer in time")
    if isinstance(error, ConnectionRefusedError):
        hint = "start the receiver, correct `port`, or let the firewall pass it"
        return Why("the connection was refused", hint=hint)
    if isinstance(error, OSError) and error.errno:
        known = "the connection was reset" if error.errno == errno.ECONNRESET else os.strerror(error.errno)
        return Why(_lower(known))
    return Why(_lower(str(error)) or type(error).__name__)


def explain_handshake(error: OSError) -> Why:
    """Why no TLS came about; a peer that says nothing, or leaves, may expect none at all."""
    if isinstance(error, TimeoutError):
        return Why("the TLS handshake took too long", hint=_SEE_PORT)
    if isinstance(error, ConnectionError):
        return Why("the server closed the connection in the TLS handshake", hint=_SEE_PORT)
    return explain(error)


def is_name_mismatch(error: Exception) -> bool:
    """Whether the chain was in order and only the name was another."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _NAME_MISMATCHES


def _explain_verification(error: ssl.SSLCertVerificationError) -> Why:
    if error.verify_code == _EXPIRED:
        return Why(
            "a certificate of the server's chain has expired",
            "have the server's certificate renewed, or put the authority's present one into `chain`",
        )
    if error.verify_code == _NOT_YET_VALID:
        return Why("the server's certificate is not valid yet", "set this machine's clock right")
    if error.verify_code in _NAME_MISMATCHES:
        return Why(
            "the server's certificate is for another name",
            "set `address` to a name that the certificate has",
        )
    if error.verify_code in _WEAK_KEYS:
        return Why(
            "a certificate of the server's chain has too weak a key",
            "have the receiver given a certificate whose key, and its authority's, has 2,048 bits or more",
        )
    if error.verify_code == _WEAK_SIGNATURE:
        return Why(
            "a certificate of the server's chain has too weak a signature",
            "have the receiver given a certificate that is signed with SHA-256 or better",
        )
    return Why(
        f"the server's certificate is not trusted: {error.verify_message}",
        "put the certificate of the authority that issued it into the file named by `chain`",
    )


def _explain_tls(error: ssl.SSLError) -> Why:
    reason = (error.reason or "").upper()
    if any(part in reason for part in _VERSIONS):
        return Why(
            "the server speaks no TLS version from 1.2 on", "have TLS 1.2 or 1.3 enabled at the server"
        )
    if "ALERT" in reason and any(part in reason for part in _CLIENT_REFUSALS):
        told = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return Why(
            f"the server refused the client certificate: {told}",
            "set `cert` and `key` to those that the receiver issued, and have them renewed if expired",
        )
    if any(part in reason for part in _NO_TLS):
        return Why(
            "the server does not answer in TLS", "set `port` to the one where the receiver expects TLS"
        )
    return Why(f"TLS failed: {reason.lower().replace('_', ' ') or 'the connection ended early'}")


def _lower(text: str) -> str:
    """`text` as the end of a sentence."""
    return text[:1].lower() + text[1:].rstrip(".")
