"""Questions on a terminal: each answer is checked as it is given, and asked again where it will not do."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from m365watch.common.text import plain
from m365watch.config.models.values import is_guid


def ask(question: str, check: Callable[[str], str], *, default: str | None = None) -> str:
    """The first answer that `check` lets pass, as it gives it back; an empty one is the default.

    `check` raises ValueError with the end of a sentence that starts with the answer.
    """
    shown = "" if default is None else f" [{default or 'none'}]"
    while True:
        sys.stderr.write(f"{question}{shown}: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise typer.Abort
        text = answer.strip()
        if not text and default is not None:
            return default
        try:
            return check(text)
        except ValueError as error:
            sys.stderr.write(f'  "{plain(text)}" {error}\n')


def confirm(question: str) -> bool:
    """Whether somebody says yes; no is what nothing stands for.

    Ctrl-C ends the command as it does anywhere, which typer's own question takes for an answer.
    Raises: typer.Abort: nobody is there.
    """
    while True:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise typer.Abort
        match answer.strip().lower():
            case "y" | "yes":
                return True
            case "" | "n" | "no":
                return False
        sys.stderr.write("  answer y or n\n")


def require_yes(question: str) -> None:
    """Raises: typer.Abort: nobody says yes."""
    if not confirm(question):
        raise typer.Abort


def ask_choice(question: str, choices: Sequence[str], *, default: str) -> str:
    """One of the choices, or what it begins with where that is clear."""

    def check(text: str) -> str:
        meant = [one for one in choices if one == text.lower()]
        meant = meant or [one for one in choices if text and one.startswith(text.lower())]
        if len(meant) != 1:
            raise ValueError(f"is none of these; give {', '.join(choices)}")
        return meant[0]

    return ask(f"{question} ({', '.join(choices)})", check, default=default)


def ask_secret(question: str) -> str:
    """What is typed, which is never shown; asked again while it is empty, or what Entra shows beside it."""
    while True:
        secret = getpass.getpass(f"{question} (not shown): ").strip()
        if is_guid(secret):
            sys.stderr.write("  that looks like the Secret ID; paste what stands under Value\n")
        elif secret and secret.isprintable():
            return secret
        else:
            sys.stderr.write("  that is empty, or no text; paste the secret's value\n")


def a_file(text: str) -> str:
    """The path of a file that is there; raises ValueError."""
    if not text:
        raise ValueError("is empty; give the path of a file")
    if not Path(text).expanduser().is_file():
        raise ValueError("is no file that is there")
    return str(Path(text).expanduser())


def a_text(text: str) -> str:
    """Any text but an empty one; raises ValueError."""
    if not text or not text.isprintable():
        raise ValueError("is empty, or has a character that is not shown")
    return text
