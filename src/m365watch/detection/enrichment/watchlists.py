"""Lists of files, several for one purpose, looked up as one; each is read again when it changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.detection.enrichment.lines import Listed, parse_listed, read_listed
from m365watch.detection.enrichment.watched_file import LOOKS_EVERY_S, Tell, Watched, say_nothing

REMEMBERED_MAX = 65_536
"""Texts whose answers are kept; then all of them are forgotten, which costs a look-up each."""
_SHOWN_MAX = 60
TEXT_REMEMBERED_MAX = 256
"""Characters of a text that is worth it."""


class Lists(Collection[str]):
    """What stands in any of the files, or was named in the settings.

    It counts as something even while it is empty: a file may grow, and rules that ask for it stay awake.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        *,
        clock: Clock,
        named: Iterable[str] = (),
        tell: Tell = say_nothing,
        of_addresses: bool = False,
    ) -> None:
        """Nothing is read before somebody asks. Of a list `of_addresses` other words say nothing."""
        self._of_addresses = of_addresses
        self.files: Sequence[Watched[Listed]] = [
            Watched(path, read=read_listed, empty=Listed(), clock=clock, tell=tell) for path in paths
        ]
        self._named = parse_listed("\n".join(named))
        self._clock = clock
        self._looked_at_s = -LOOKS_EVERY_S
        self._version = 0
        self._remembered: dict[str, bool] = {}

    def __contains__(self, text: object) -> bool:
        """Whether the text, in lower case, is listed: as it is, as an address, or as a domain below one."""
        if not isinstance(text, str):
            return False
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_at_s >= LOOKS_EVERY_S:
            self.look()
        found = self._remembered.get(text)
        if found is None:
            found = self._named.has(text) or any(file.held.has(text) for file in self.files)
            if len(text) <= TEXT_REMEMBERED_MAX:
                if len(self._remembered) >= REMEMBERED_MAX:
                    self._remembered.clear()
                self._remembered[text] = found
        return found

    def __iter__(self) -> Iterator[str]:
        """Every word; networks are not told one by one."""
        yield from self._named.words
        for file in self.files:
            yield from file.held.words

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._named) + sum(len(file.held) for file in self.files)

    def __bool__(self) -> bool:
        """Whether there is any list at all, be it empty for now."""
        return bool(self.files) or len(self._named) > 0

    def look(self) -> int:
        """A number that grows when a file was read again, after a look at each."""
        self._looked_at_s = self._clock.monotonic_s()
        for file in self.files:
            file.look()
        version = sum(file.version for file in self.files)
        if version != self._version:
            self._remembered.clear()
            self._version = version
        return version

    def naming(self, text: str) -> list[Path]:
        """The files in which the text is listed."""
        return [file.path for file in self.files if file.held.has(text)]

    def troubles(self) -> list[str]:
        """A line for each file that cannot be read as it is, or that has nothing in it."""
        self.look()
        found = [(file.path, file.trouble or self._emptiness(file.held)) for file in self.files]
        return [f"{path}: {trouble}" for path, trouble in found if trouble]

    def _emptiness(self, held: Listed) -> str:
        if self._of_addresses and not held.networks:
            return "has no line that is an address or a network"
        return "" if len(held) else "has no line that says anything"

    def remarks(self) -> list[str]:
        """A line for each file of which some lines say nothing, once all were looked at."""
        found = []
        for file in self.files:
            words = sorted(file.held.words) if self._of_addresses and file.held.networks else []
            if words:
                counted = f"{len(words):,} lines are" if len(words) > 1 else "1 line is"
                told = f"{counted} no address or network, such as {words[0][:_SHOWN_MAX]!r}"
                found.append(f"{file.path}: {told}")
            found += [f"{file.path}: {one}" for one in file.held.mistakes]
        return found
