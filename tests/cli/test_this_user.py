"""Who is written down as having done something: whom the system says, not what a variable says."""

from __future__ import annotations

import os
import pwd

import pytest

from m365watch.cli.this_user import this_user


@pytest.fixture(autouse=True)
def nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nobody came by sudo."""
    monkeypatch.delenv("SUDO_USER", raising=False)


def test_a_variable_makes_nobody_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOGNAME=bea m365watch respond ...` wrote down Bea as who disabled the account."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "bea")

    assert this_user() == pwd.getpwuid(os.getuid()).pw_name


def test_who_came_by_sudo_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several share the collector's account: the variable names one, and is told as a variable."""
    monkeypatch.setenv("SUDO_USER", "ann\n")

    assert this_user() == f"{pwd.getpwuid(os.getuid()).pw_name} (SUDO_USER: ann)"
