"""A change of the configuration's file as a command offers it: shown first, asked for, and then made."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import typer

from m365watch.cli.terminal.prompts import require_yes
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.config.config_file import FileText
    from m365watch.config.editor.tenants import Removal


def require_somebody(*, yes: bool, instead: str) -> None:
    """Return if somebody can be asked, or nobody has to be.

    Raises: typer.BadParameter: standard input is no terminal; `instead` says what else can be done.
    """
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter(f"nobody is there to be asked; {instead}")


def write_tenant(file: FileText, input_name: str | None, tenant_id: str, *, yes: bool) -> bool:
    """Put the tenant into the file, once the change was shown and allowed; whether it was put there now.

    Raises: SettingsRefused: what would be written does not load; NeedsOperator: it cannot be written.
    """
    from m365watch.config.editor.tenants import with_tenant

    text = with_tenant(file, input_name, tenant_id)
    if text == file.text:
        sys.stderr.write(f"{file.path} names tenant {tenant_id} already; nothing is changed\n")
        return False
    _write(file, text, yes=yes)
    return True


def write_without_tenant(file: FileText, input_name: str | None, tenant_id: str, *, yes: bool) -> Removal:
    """Take the tenant out of the file, once the change was shown and allowed; what went.

    Raises: SettingsRefused: it is not there, or what would be written does not load; NeedsOperator: it
    cannot be written.
    """
    from m365watch.config.editor.tenants import without_tenant

    removal = without_tenant(file, input_name, tenant_id)
    _write(file, removal.text, yes=yes)
    return removal


def _write(file: FileText, text: str, *, yes: bool) -> None:
    from m365watch.config.config_file import replace_whole
    from m365watch.config.editor.redaction import show_difference
    from m365watch.config.editor.tenants import check_text

    check_text(file, text, environment=os.environ)
    difference = show_difference(file.text, text, name=str(file.path), suffix=file.suffix)
    sys.stderr.write("".join(f"{plain(line)}\n" for line in difference.splitlines()))
    if not yes:
        require_yes(f"Change {file.path}?")
    replace_whole(file, text)
    sys.stderr.write(f"{file.path} is changed\n")


def command_line(*words: str) -> str:
    """A command of m365watch, to be pasted into a shell."""
    return shlex.join(["m365watch", *words])
