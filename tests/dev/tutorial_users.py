"""Who follows a tutorial: somebody who is not root, and has given the folder away to the service's user."""

from __future__ import annotations

import re
import shlex

from tutorial_pages import Click, Fence, parts_of

GIVEN_AWAY = "sudo chown -R m365watch: /srv/m365watch"
AS_THE_SERVICE = "sudo -u m365watch -s"
_IN_THE_FOLDER = ("cd /srv/m365watch", "m365watch ", "mv ", "rm ", "(umask")
"""How commands begin that work in the folder or with its files."""
_WITH_FILES = {"install", "mv", "rm", "chmod"}


def misplaced_lines(page: str, *, given_away: bool = False) -> list[str]:
    """What fails where the folder has mode 0700 and belongs to `m365watch`, who may not use sudo.

    Each block is typed in the terminal in which the one before was, but for what begins with `sudo`: that is
    typed in the reader's own, whose folder is another, so that it has to name files by their whole path.
    """
    as_the_service, found = False, []
    for part in parts_of(page):
        if isinstance(part, Click):
            # On another machine nothing is there yet.
            given_away, as_the_service = given_away and bool(part.act), as_the_service and bool(part.act)
            continue
        for line in _commands_of(part):
            if line == GIVEN_AWAY:
                given_away, as_the_service = True, False
            elif line == AS_THE_SERVICE:
                as_the_service = True
            elif line.startswith("sudo "):
                found += [line] if given_away and not _names_whole_paths(line) else []
            elif line.startswith(_IN_THE_FOLDER) and given_away and not as_the_service:
                found.append(line)
    return found


def _commands_of(block: Fence) -> list[str]:
    """The commands, a line each; a change of the configuration is one as well."""
    if block.kind == "sh":
        return re.split(r"\n| && ", block.text.replace("\\\n", " ").strip())
    if block.kind == "yaml" and block.title.endswith("m365watch.yaml") and not block.reason:
        return [f"m365watch {block.title}"]
    return []


def _names_whole_paths(line: str) -> bool:
    _sudo, command, *words = shlex.split(line)
    named = [word for word in words if not word.startswith("-") and not word.isdigit()]
    return command not in _WITH_FILES or all(word.startswith("/") for word in named)
