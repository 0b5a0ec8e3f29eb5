"""Secrets that the desktop's or the machine's keyring keeps: `keyring:SERVICE/NAME` in place of the secret.

The package `keyring` is asked, which is no part of the collector: `pip install keyring`.
"""

from __future__ import annotations

import shlex
from importlib import import_module
from typing import Any

PREFIX = "keyring:"


def is_reference(value: object) -> bool:
    """Whether the value names a place in the keyring."""
    return isinstance(value, str) and value.startswith(PREFIX)


def read_keyring(reference: str) -> str:
    """The secret that the reference names: what follows the last slash is the name.

    Raises:
        ValueError: the end of a sentence that starts with the reference; no secret is in it.
    """
    service, slash, name = reference.removeprefix(PREFIX).rpartition("/")
    if not (slash and service and name):
        raise ValueError("is not a place in the keyring; write keyring:SERVICE/NAME")
    try:
        library: Any = import_module("keyring")
    except ImportError:
        raise ValueError(
            "needs the package keyring, which is not installed; run: pip install keyring"
        ) from None
    try:
        secret = library.get_password(service, name)
    except Exception as error:  # noqa: BLE001 - each system's keyring has errors of its own
        # Its words are not repeated: nobody knows what is in them.
        raise ValueError(
            f"cannot be had: the keyring failed with {type(error).__name__}; unlock it"
        ) from None
    if not isinstance(secret, str) or not secret:
        raise ValueError(
            f"is not in the keyring; run: keyring set {shlex.quote(service)} {shlex.quote(name)}"
        )
    return secret
