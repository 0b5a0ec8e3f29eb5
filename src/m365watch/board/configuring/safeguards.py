"""What nobody may do from a page, whatever the configuration's own checker lets pass.

Whoever edits a page is not always who owns the machine. So a page names no file outside the configuration's
folder, no variable of the environment that is not meant for the collector, and sends no kept secret
to another host than before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from m365watch.config.document import Unreadable
from m365watch.config.kept_secrets import MARK, scalars
from m365watch.config.keyrings import is_reference
from m365watch.config.mistakes import KeyPath, show_path
from m365watch.config.values import VARIABLE

OWN_VARIABLES = "M365"
"""What the names of variables begin with that a page may name for the first time."""
_PATH_KEYS = frozenset(
    {"directory", "directory_name", "chain", "chain_loc", "cert", "cert_loc", "key", "key_loc", "ca_bundle"}
)
_SENT = frozenset({"client_secret", "federated_token", "token", "password", "proxy_password", "auth_id"})
"""Secrets that go over the wire as they are; each may be in a file, or referred to, as well."""
_WHERE = frozenset(
    {"login_url", "management_url", "graph_url", "audience", "name", "cloud"}
    | {"endpoint", "url", "address", "location", "port", "domain", "proxy", "no_proxy", "ca_bundle"}
)
"""Keys that say where something is sent."""


def refusals(
    section: str, original: str, whole: str, *, folders: tuple[Path, ...]
) -> list[tuple[KeyPath, str]]:
    """What the section does that a page may not: the key's path in the section, and why.

    `section` has marks for secrets that are kept, `original` is what it takes the place of, and `whole` the
    configuration's text; relative paths begin at the first of `folders`, below which files may be.
    """
    try:
        new, old = scalars(section), scalars(original)
    except Unreadable:
        return []
    found = [*_strange_files(new, old, folders), *_strange_references(new, old, whole)]
    return found + list(_turned_secrets(new, old))


def _strange_files(
    new: dict[KeyPath, str], old: dict[KeyPath, str], folders: tuple[Path, ...]
) -> Iterator[tuple[KeyPath, str]]:
    known = {text for path, text in old.items() if _names_file(path, text)}
    for path, text in new.items():
        if text in known or not _names_file(path, text) or "obfuscation_data" in path:
            continue
        try:
            real = Path(os.path.realpath(folders[0] / text))
        except ValueError:  # a zero, or half a letter
            yield path, "has a character that no file's name can have: leave it out"
            continue
        if not any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            yield (
                path,
                f"lies outside {folders[0]}; a page names no such file: write it into the file itself",
            )


def _names_file(path: KeyPath, text: str) -> bool:
    key = str(path[-1]) if path else ""
    is_file = key.endswith("_file") or key in _PATH_KEYS
    return is_file or text.startswith(("/", "~")) or ".." in Path(text).parts


def _strange_references(
    new: dict[KeyPath, str], old: dict[KeyPath, str], whole: str
) -> Iterator[tuple[KeyPath, str]]:
    known = set(VARIABLE.findall(whole))
    for path, text in new.items():
        strange = [
            one for one in VARIABLE.findall(text) if one not in known and not one.startswith(OWN_VARIABLES)
        ]
        if strange:
            yield (
                path,
                (
                    f"names the variable {strange[0]} for the first time; from a page only names that begin"
                    f" with {OWN_VARIABLES} can be: write others into the file itself"
                ),
            )
        if is_reference(text) and old.get(path) != text:
            yield path, "names a place in the keyring; from a page none can be: write it into the file itself"


def _turned_secrets(new: dict[KeyPath, str], old: dict[KeyPath, str]) -> Iterator[tuple[KeyPath, str]]:
    """Secrets that were not typed now, and would go elsewhere than before."""
    turned = [path for path in {*new, *old} if _says_where(path) and new.get(path) != old.get(path)]
    if not turned or not old:
        return
    for path, text in new.items():
        key = str(path[-1]) if path else ""
        if key.removesuffix("_file") in _SENT and (text == MARK or old.get(path) == text):
            where = show_path(min(turned, key=str))
            yield (
                path,
                (
                    f"would be sent elsewhere, as {where} is another one: type the secret anew,"
                    " or make this change in the file itself"
                ),
            )


def _says_where(path: KeyPath) -> bool:
    if path[:1] == ("cloud",) or "network" in path:
        return True
    return bool(path) and path[-1] in _WHERE and path[:1] == ("config",)
