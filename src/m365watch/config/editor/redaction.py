"""A configuration's text without its secrets, for whoever may not read them, and with them again. Pure.

A mark stands where a secret stood. It is good at that place alone: moved to another key, it would show
the secret, or send it elsewhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from m365watch.config.document import Unreadable
from m365watch.config.editor.text_spans import NULLS, Spot, last_end, locate
from m365watch.config.models.values import VARIABLE
from m365watch.config.normalization import is_placeholder
from m365watch.config.secrets import is_reference
from m365watch.config.validation_report import SECRET_KEYS, KeyPath, hide_secrets, show_path

MARK = "<kept secret>"
_OF_SECTION = ".yaml"
_CONTEXT_LINES = 2
_SECRET_NAMES = SECRET_KEYS | {"client_assertion"}


def without_secrets(section: str) -> str:
    """The section's text with `MARK` in place of each secret; references to variables and files stay.

    What has the shape of a secret in a comment is in stars. Raises: Unreadable.
    """
    return _masked(section, f'"{MARK}"', suffix=_OF_SECTION)


def show_difference(old: str, new: str, *, name: str, suffix: str = "") -> str:
    """The unified difference of two texts of the file `name`, secrets in stars; "" where there is none.

    Raises: Unreadable.
    """
    before, after = (_masked(text, "***", suffix=suffix).splitlines() for text in (old, new))
    lines = difflib.unified_diff(before, after, name, name, n=_CONTEXT_LINES, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def plain_variables(text: str) -> set[str]:
    """The variables that the text names, but for those that stand for a secret anywhere."""
    secret: set[str] = set()
    plain: set[str] = set()
    for path, spot in _scalars(text):
        names = secret if holds_secret(path, spot.text) else plain
        names.update(VARIABLE.findall(spot.text))
    return plain - secret


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
            written = original[secret.start : last_end(original, secret)]
            marked = marked[: spot.start] + written + marked[last_end(marked, spot) :]
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


def holds_secret(path: KeyPath, text: str) -> bool:
    """Whether the text is a secret by its key, or one around it, by its shape, or by a user in a URL."""
    is_url = "://" in text or path[-1:] == ("proxy",)
    return not _SECRET_NAMES.isdisjoint(path) or hide_secrets(text) != text or (is_url and "@" in text)


def _masked(text: str, mark: str, *, suffix: str) -> str:
    for _, spot in sorted(_secrets_in(text, suffix), key=_start, reverse=True):
        text = text[: spot.start] + mark + text[last_end(text, spot) :]
    return hide_secrets(text)


def _secrets_in(text: str, suffix: str = _OF_SECTION) -> list[tuple[KeyPath, Spot]]:
    return [(path, spot) for path, spot in _scalars(text, suffix) if _is_secret(path, spot)]


def _is_secret(path: KeyPath, spot: Spot) -> bool:
    """Whether the scalar shows a secret: nothing, a placeholder and a plain reference do not."""
    text = spot.text
    is_empty = not spot.style and text in NULLS
    refers = VARIABLE.fullmatch(text) is not None or is_reference(text) or is_placeholder(text)
    return holds_secret(path, text) and not is_empty and not refers


def _scalars(text: str, suffix: str = _OF_SECTION) -> Iterator[tuple[KeyPath, Spot]]:
    root = locate(text, suffix=suffix)
    return iter(()) if root is None else _walk(root, ())


def _walk(spot: Spot, path: KeyPath) -> Iterator[tuple[KeyPath, Spot]]:
    if spot.kind == "scalar":
        yield path, spot
    for place, (name, value) in enumerate(spot.members):
        if not _SECRET_NAMES.isdisjoint(path):
            yield (*path, place), name  # `client_secret: {word}` is an object with the word as its key
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
