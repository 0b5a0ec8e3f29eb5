"""A section's text without its secrets, for whoever may not read them, and with them again. Pure.

A mark stands where a secret stood. It is good at that place alone: moved to another key, it would show
the secret, or send it elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from m365watch.config.document import Unreadable
from m365watch.config.editor.tenants import SECRET_NAMES
from m365watch.config.editor.text_spans import NULLS, Spot, locate
from m365watch.config.models.values import VARIABLE
from m365watch.config.normalization import is_placeholder
from m365watch.config.secrets import is_reference
from m365watch.config.validation_report import KeyPath, hide_secrets, show_path

MARK = "<kept secret>"
_OF_SECTION = ".yaml"
_USER_IN_URL = re.compile(r"://[^/@\s]*@")


def without_secrets(section: str) -> str:
    """The section's text with `MARK` in place of each secret; references to variables and files stay.

    What has the shape of a secret in a comment is in stars. Raises: Unreadable.
    """
    for _, spot in sorted(_secrets_in(section), key=_start, reverse=True):
        section = f'{section[: spot.start]}"{MARK}"{section[_end(section, spot) :]}'
    return hide_secrets(section)


def with_secrets(marked: str, original: str) -> str:
    """`marked` with the secrets of `original`, each where its mark stands.

    Raises: Unreadable: a mark stands where `original` has no secret.
    """
    known = dict(_secrets_in(original))
    back: dict[KeyPath, str] = {}
    for path, spot in sorted(_scalars(marked), key=_start, reverse=True):
        if MARK in spot.text:
            if spot.text != MARK or path not in known:
                raise Unreadable(f"{show_path(path)}: {MARK} stands for no secret here; type the secret")
            secret = known[path]
            written = original[secret.start : _end(original, secret)]
            marked = marked[: spot.start] + written + marked[_end(marked, spot) :]
            back[path] = secret.text
    if any(text != back[path] for path, text in scalars(marked).items() if path in back):
        raise Unreadable("a secret cannot be put back as it was; type it")
    return marked


def secret_paths(section: str) -> list[KeyPath]:
    """Where secrets stand in the section's text, those that are only referred to left out."""
    return [path for path, _ in _secrets_in(section)]


def scalars(section: str) -> dict[KeyPath, str]:
    """Every text of the section by its path; raises Unreadable."""
    return {path: spot.text for path, spot in _scalars(section)}


def spots(section: str) -> list[tuple[KeyPath, int]]:
    """Every key of the section with where it stands in its text; raises Unreadable."""
    root = locate(section, suffix=_OF_SECTION)
    return [] if root is None else list(_starts(root, ()))


def _secrets_in(section: str) -> list[tuple[KeyPath, Spot]]:
    return [(path, spot) for path, spot in _scalars(section) if _is_secret(path, spot)]


def _is_secret(path: KeyPath, spot: Spot) -> bool:
    text = spot.text
    if hide_secrets(text) != text or _USER_IN_URL.search(text):
        return True
    named = next((one for one in reversed(path) if isinstance(one, str)), "")
    is_empty = not spot.style and text in NULLS
    refers = VARIABLE.fullmatch(text) is not None or is_reference(text) or is_placeholder(text)
    return named in SECRET_NAMES and not is_empty and not refers


def _scalars(section: str) -> Iterator[tuple[KeyPath, Spot]]:
    root = locate(section, suffix=_OF_SECTION)
    return iter(()) if root is None else _walk(root, ())


def _walk(spot: Spot, path: KeyPath) -> Iterator[tuple[KeyPath, Spot]]:
    if spot.kind == "scalar":
        yield path, spot
    for name, value in spot.members:
        yield from _walk(value, (*path, name.text))
    for place, value in enumerate(spot.elements):
        yield from _walk(value, (*path, place))


def _starts(spot: Spot, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    for name, value in spot.members:
        yield (*path, name.text), name.start
        yield from _starts(value, (*path, name.text))
    for place, value in enumerate(spot.elements):
        yield (*path, place), value.start
        yield from _starts(value, (*path, place))


def _start(found: tuple[KeyPath, Spot]) -> int:
    return found[1].start


def _end(text: str, spot: Spot) -> int:
    """Behind the scalar; the end of a block of lines stands behind its line breaks."""
    return len(text[: spot.end].rstrip()) if spot.style in {"|", ">"} else spot.end
