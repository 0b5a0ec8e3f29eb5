"""A list as people keep it: an address, a network, a domain, a hash or a name a line, with comments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from m365watch.common.file_access import NO_TEXT, UNREAD_LINE, read_small_file, text_of_list
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
