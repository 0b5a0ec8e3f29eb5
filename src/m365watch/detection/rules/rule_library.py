"""The rules that are in force: packs that come along, and the user's own directories.

Every mistake of every file is told in one line with the file and the key; a rule with a mistake is
left out, and the others work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from m365watch.common.file_access import (
    NO_TEXT,
    UNREAD_LINE,
    Below,
    closed_to,
    is_file,
    is_folder,
    is_hidden,
    is_there,
    list_below,
    read_small_file,
    text_of_list,
    why_closed,
)
from m365watch.detection.correlation.risk_score import risk_rules
from m365watch.detection.rules.diagnostics import MISREAD, Mistake, in_order, reason_of
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_builder import Draft, Reading, Written, make_rules
from m365watch.detection.rules.sigma_filters import FilterDraft
from m365watch.detection.rules.sigma_parser import Lists, parse_documents
from m365watch.detection.rules.validation import empty_list_faults, misspelled_keys, read_extension

if TYPE_CHECKING:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

    from m365watch.detection.rules.yaml_documents import Document

PACKS_DIRECTORY = Path(__file__).parents[1] / "packs"
_COMMON_LISTS = PACKS_DIRECTORY / "core" / "lists"
"""Those of the first pack, which the others may name: what an error means is written down once."""
FILE_BYTES_MAX = 1_048_576
"""The largest file of rules."""
LIST_BYTES_MAX = 64 * 1_048_576
"""The largest file of a list: some millions of addresses."""
FILES_MAX = 20_000
OWN_DOMAINS = "internal_domains"
"""What SigmaHQ's rules call the organisation's own domains."""
EMPTY = "is empty; if that is meant, say so in a line that begins with #"
NO_PLACE = "there is no such file or directory"
_SUFFIXES = {".yml", ".yaml"}


@dataclass(frozen=True, slots=True)
class Library:
    """The rules in force, and what is wrong with those that are not."""

    rules: tuple[Rule, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    tried: frozenset[str] = frozenset()
    """The ids of those at places that are only tried: files may be called as those in force are."""

    def find(self, name: str) -> list[Rule]:
        """The rules of that id, name, number in the catalogue, alias or title, in any case."""
        wanted = name.lower()
        return [rule for rule in self.rules if wanted in {one.lower() for one in rule.names}]

    def with_risk(self, points: int) -> Library:
        """The same with the rule about risk, which is in no file; not where `points` is 0."""
        return replace(self, rules=(*self.rules, *risk_rules(points)))

    def by_id(self) -> dict[str, Rule]:
        """Each rule by its id."""
        return {rule.id: rule for rule in self.rules}


def list_packs() -> list[str]:
    """The names of the packs that come along."""
    if not PACKS_DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in PACKS_DIRECTORY.iterdir() if path.is_dir() and path.name[:1] != "_")


def load_packs(
    names: Iterable[str] = (), *, directories: Iterable[Path] = (), lists: Mapping[str, tuple[str, ...]] = {}
) -> Library:
    """The rules of these packs (all where none is named) and directories; `lists` replaces their lists."""
    chosen = list(names) or list_packs()
    return load_library([*(PACKS_DIRECTORY / name for name in chosen), *directories], lists=lists)


def load_beside_packs(places: Sequence[Path]) -> Library:
    """The rules of these places alone, which may name rules of the packs as in a run."""
    if any(place.resolve().is_relative_to(PACKS_DIRECTORY) for place in places):
        return load_library(places)
    packed = {(rule.id, rule.path) for rule in load_packs().rules}
    library = load_packs(directories=places)
    return replace(library, rules=tuple(one for one in library.rules if (one.id, one.path) not in packed))


def load_library(
    places: Iterable[Path],
    *,
    lists: Mapping[str, tuple[str, ...]] = {},
    own_domains: Iterable[str] = (),
    tried: Collection[Path] = (),
) -> Library:
    """The rules of these files and directories; a directory is searched for .yml and .yaml at any depth.

    The folder `lists` of a directory has the texts that its rules name with the modifier `expand`, a
    line each. A rule's id is its own; one without gets an id of its file and title. `own_domains` are what
    rules of others call %internal_domains%. A rule of the places `tried` takes the place of any with its id.
    """
    reading = Reading(lists, {OWN_DOMAINS: tuple(sorted(own_domains))})
    for reading.is_tried, some in ((False, places), (True, tried)):
        for place in some:
            reading.is_packed = place.is_relative_to(PACKS_DIRECTORY)
            _read_place(place, reading)
    rules = make_rules(reading)
    ids = frozenset(draft.id for draft in reading.drafts if draft.is_tried)
    return Library(tuple(rules), tuple(in_order(reading.mistakes)), ids)


def _read_place(place: Path, reading: Reading) -> None:
    if is_file(place):
        _read_file(place, place.name, reading, _lists_beside(place.parent, reading))
        return
    if not is_folder(place):
        absent = "is neither a file nor a folder" if is_there(place) else NO_PLACE
        reading.complain(str(place), "", why_closed(place) or absent)
        return
    paths, folders = list_rule_files(place)
    for closed in folders:
        # Its rules would be off without a word: what may not be listed looks as if it were empty.
        reading.complain(str(closed), "", closed_to())
    lists = _lists_beside(place, reading)
    if len(paths) > FILES_MAX:
        reading.complain(str(place), "", f"has more than {FILES_MAX} files of rules; the rest is left out")
    for path in paths[:FILES_MAX]:
        _read_file(path, _shown(path, place), reading, lists)


def list_rule_files(place: Path) -> Below:
    """The files of rules at that place, itself one or a folder of some, and the folders that are closed."""
    if is_file(place):
        return Below([place], [])
    below = list_below(place)
    return below._replace(files=[path for path in below.files if path.suffix in _SUFFIXES])


def list_read_files(place: Path) -> list[Path]:
    """The files that the rules of that place are made of: their own, and their lists."""
    folder = place.parent if is_file(place) else place
    return [*list_rule_files(place).files, *_list_files(folder / "lists")]


def names_of_files(place: Path) -> set[str]:
    """How the rules of that place name the files that they stand in."""
    if is_file(place):
        return {place.name}
    return {_shown(path, place) for path in list_rule_files(place).files}


def _shown(path: Path, place: Path) -> str:
    return str(path.relative_to(place.parent))


def _lists_beside(folder: Path, reading: Reading) -> dict[str, tuple[str, ...]]:
    common = _read_lists(_COMMON_LISTS, reading) if reading.is_packed else {}
    return {**reading.known, **common, **_read_lists(folder / "lists", reading), **reading.lists}


def _read_lists(directory: Path, reading: Reading) -> dict[str, tuple[str, ...]]:
    found = {}
    for path in _list_files(directory):
        try:
            text = _text_in(path)
        except (OSError, ValueError) as error:
            reading.complain(str(path), "", reason_of(error))
            continue
        listed = _lines_of(text)
        found[path.stem] = tuple(listed)
        if not text.strip():
            reading.complain(str(path), "", EMPTY, is_lesser=True)
        for line, number in listed.items():
            if NO_TEXT in line:
                reading.complain(str(path), "", UNREAD_LINE, line=number, is_lesser=True)
    return found


def _list_files(directory: Path) -> list[Path]:
    if not is_folder(directory):
        return []
    return sorted(path for path in directory.glob("*.txt") if not is_hidden(path.name))


def read_list(path: Path) -> tuple[str, ...]:
    """The lines of a list, without blanks around, empty lines and what follows a # at a line's start.

    Raises: FileNotFoundError, ValueError.
    """
    return tuple(_lines_of(_text_in(path)))


def _text_in(path: Path) -> str:
    content, _ = read_small_file(path, bytes_max=LIST_BYTES_MAX)
    if len(content) > LIST_BYTES_MAX:
        raise ValueError(f"is larger than {LIST_BYTES_MAX} bytes")
    return text_of_list(content)


def _lines_of(text: str) -> dict[str, int]:
    """Those that say anything, each with its number."""
    found = dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word and not word.startswith("#"):
            found.setdefault(word, number)
    return found


def _read_file(path: Path, shown: str, reading: Reading, lists: Mapping[str, tuple[str, ...]]) -> None:
    import yaml

    from m365watch.detection.rules.yaml_documents import load_documents, mistake_of

    text = b""
    try:
        text = _read_text(path)
        documents = list(load_documents(text))
    except yaml.YAMLError as error:
        line, said = mistake_of(error, text)
        reading.complain(shown, "", f"is no YAML: {said}; mend it from here on", line=line)
        return
    except (OSError, ValueError, RecursionError) as error:
        reading.complain(shown, "", reason_of(error))
        return
    if not text.strip():
        reading.complain(shown, "", EMPTY)
    for group in _group_documents(documents, shown, reading):
        _read_rule(group, reading, lists)


def _read_text(path: Path) -> bytes:
    content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX} bytes")
    return content


def _group_documents(documents: list[Document], shown: str, reading: Reading) -> list[list[Written]]:
    """The documents that are parsed together: all where one has an `action`, otherwise each by itself."""
    found: list[Written] = []
    for one in documents:
        if not isinstance(one.content, dict):
            told = "is no map of keys and values; begin a rule with `title: `"
            reading.complain(shown, "", told, line=one.line)
            continue
        written = Written(shown, one.content, one.places)
        line, twice = one.twice
        if twice:
            reading.complain(shown, written.title, twice, line=line)
        else:
            found.append(written)
    if any("action" in one.content for one in found):
        return [[replace(one, is_whole=False) for one in found]]
    return [[one] for one in found]


def _read_rule(group: list[Written], reading: Reading, lists: Lists) -> None:
    """Keep what the documents say as drafts, or all that is wrong with them."""
    first = group[0]
    for written in group:
        reading.complain_of(written, *misspelled_keys(written.content), is_lesser=True)
    errors: Sequence[Exception]
    try:
        parsed = parse_documents(one.content for one in group)
        errors = parsed.errors
    except MISREAD as error:
        errors = [error]
    if errors or (first.is_whole and any(empty_list_faults(first.content))):
        reading.refuse(first, lists, *errors)
        reading.broken += group
        return
    reading.filters += [(first, FilterDraft(one, lists)) for one in parsed.filters]
    for rule in parsed.rules:
        extension, faults = read_extension(_content_of(rule, first))
        if faults:
            reading.complain_of(first, *faults)
            reading.broken.append(first)
            continue
        identity = _id_of(rule, first.path)
        reading.drafts.append(
            Draft(first, rule, extension, lists, identity, reading.is_packed, reading.is_tried)
        )


def _content_of(rule: SigmaRule | SigmaCorrelationRule, written: Written) -> dict[str, Any]:
    """What a rule's document says; the half of it that `action` leaves of it where it has joined several."""
    if written.is_whole:
        return written.content
    detection = getattr(rule, "detection", None)
    return {
        "m365watch": rule.custom_attributes.get("m365watch"),
        "detection": dict.fromkeys(detection.detections) if detection is not None else {},
    }


def _id_of(rule: SigmaRule | SigmaCorrelationRule, shown: str) -> str:
    if rule.id is not None:
        return str(rule.id)
    return str(uuid5(NAMESPACE_URL, f"m365watch:{shown}:{rule.name or rule.title}"))
