"""Who runs a command, for what is written down of it."""

from __future__ import annotations

import os
import pwd

from m365watch.common.text import plain


def this_user() -> str:
    """The user that this runs as; whom sudo names beside it is told apart, for anybody can set a variable."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    behind = plain(os.environ.get("SUDO_USER", "")).strip()
    return f"{name} (SUDO_USER: {behind})" if behind not in ("", name) else name
