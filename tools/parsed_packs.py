"""The rules of the packs, parsed beforehand: `src/m365watch/detect/packs/parsed.json`."""

from __future__ import annotations

from m365watch.detect.library import PACKS_DIRECTORY, list_packs, load_packs
from m365watch.detect.parsed import parsed_text


def render() -> str:
    """The file, of the packs as they are.

    Raises: ValueError: there is a mistake in one of them.
    """
    library = load_packs()
    if library.mistakes:
        raise ValueError(str(library.mistakes[0]))
    return parsed_text(library.rules, PACKS_DIRECTORY, list_packs())
