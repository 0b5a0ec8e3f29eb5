"""Lists of files, several for one purpose, looked up as one; each is read again when it changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.common.file_access import NO_TEXT, UNREAD_LINE, read_small_file, text_of_list
from m365watch.detection.enrichment.watched_file import LOOKS_EVERY_S, Tell, Watched, say_nothing
from m365watch.detection.fields.ip_addresses import parse_address, parse_network

LIST_BYTES_MAX = 64 * 1_048_576
"""The largest file of a list: some millions of lines."""
LINES_MAX = 3_000_000
MISTAKES_KEPT_MAX = 5
_LINE_MAX = 512
_BITS = {4: 32, 6: 128}
_GUEST = "#ext#"
"""Stands in the user names of guests, and begins no comment."""
_LABELS = {"exitaddress"}
"""What stands before the address in the list that the Tor project keeps of its exits."""


@dataclass(slots=True)
class Listed:
    """The lines of one file, in the form in which they are looked up."""

    words: frozenset[str] = frozenset()
    """Names, domains, hashes, ids: in lower case."""
    networks: dict[tuple[int, int], frozenset[int]] = field(default_factory=dict)
    """By version and length of the prefix, the networks' first bits; a lone address is a whole prefix."""
    mistakes: tuple[str, ...] = ()
    """Lines that are too long to be anything, or no text, the first ones."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self.words) + sum(map(len, self.networks.values()))

    def has_address(self, text: str) -> bool:
        """Whether the address is listed, or lies in a network that is."""
        address = parse_address(text) if self.networks else None
        if address is None:
            return False
        number, bits = int(address), _BITS[address.version]
        return any(
            number >> (bits - length) in firsts
            for (version, length), firsts in self.networks.items()
            if version == address.version
        )

    def has(self, text: str) -> bool:
        """Whether the text, in lower case, is listed: as it is, as an address, or as a domain below one."""
        if text in self.words or self.has_address(text):
            return True
        return any(parent in self.words for parent in _parents(text))


def read_listed(path: Path) -> Listed:
    """The lines of a file. Raises: FileNotFoundError; ValueError: it is too large, no file, or no text."""
    content, _ = read_small_file(path, bytes_max=LIST_BYTES_MAX)
    if len(content) > LIST_BYTES_MAX:
        raise ValueError(f"is larger than {LIST_BYTES_MAX // 1_048_576} MB")
    return parse_listed(text_of_list(content))


def parse_listed(text: str) -> Listed:
    """The lines of a text. What follows a # or ; is a comment, and so is what follows a comma or blank.

    Raises: ValueError: there are more than `LINES_MAX`.
    """
    words: set[str] = set()
    networks: dict[tuple[int, int], set[int]] = {}
    mistakes: list[str] = []
    lines = text.splitlines()
    if len(lines) > LINES_MAX:
        raise ValueError(f"has more than {LINES_MAX:,} lines")
    for number, line in enumerate(lines, 1):
        word = _word_of(line)
        if not word:
            continue
        if len(word) > _LINE_MAX:
            mistakes.append(f"line {number} is longer than {_LINE_MAX} characters")
            continue
        if NO_TEXT in word:
            mistakes.append(f"line {number} {UNREAD_LINE}")
        network = parse_network(word)
        if network is None:
            words.add(word)
        else:
            bits = _BITS[network.version]
            first = int(network.network_address) >> (bits - network.prefixlen)
            networks.setdefault((network.version, network.prefixlen), set()).add(first)
    kept = {key: frozenset(found) for key, found in networks.items()}
    return Listed(frozenset(words), kept, tuple(mistakes[:MISTAKES_KEPT_MAX]))


def _word_of(line: str) -> str:
    """The line's first word, in lower case, without the brackets that keep it from being clicked."""
    words = line.replace(",", " ").split(maxsplit=2)
    if words and words[0].lower() in _LABELS:
        words = words[1:]
    word = words[0].strip("\"'").lower() if words else ""
    if _GUEST not in word:
        word = word.partition("#")[0].partition(";")[0]
    return word.replace("[.]", ".").replace("hxxp", "http")


def _parents(text: str) -> Iterator[str]:
    """The domains that a domain lies in, but for the last label: a.b.example gives b.example."""
    if "." not in text or "@" in text or "/" in text or len(text) > _LINE_MAX:
        return
    rest = text
    while True:
        _, dot, rest = rest.partition(".")
        if not dot or "." not in rest:
            return
        yield rest


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
