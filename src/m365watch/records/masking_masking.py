"""`obfuscation_data`: what the rules name is masked before any output sees a record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from m365watch.common.model import Header
from m365watch.config.models.settings import MaskSettings
from m365watch.records.headers import header_of_object, read_headers
from m365watch.records.json_scanner import TOLERANT, Unreadable, replace_spans
from m365watch.records.mask_spans import find_spans
from m365watch.records.masking import PatternTime, Place, Rule, compile_rules
from m365watch.records.split import Fragment, SplitBlob

_NOT_MASKABLE = "it cannot be read in full, so it cannot be masked"
_SPECIAL = frozenset('"\\/').union(map(chr, range(32)))
"""Characters that JSON can write as an escape without \\u."""


class Masker:
    """Masks the records of one feed.

    A rule changes the values that its path leads to, in each place where they stand, however
    their keys are written; every other byte stays. A record that no rule's keys stand in is
    not looked at any closer.
    """

    def __init__(self, masks: Sequence[MaskSettings], *, spent_s: Callable[[], float]) -> None:
        """`spent_s` says how much work this thread has done: that bounds what patterns may take.

        Raises: regex.error: a pattern is no regular expression.
        """
        rules = compile_rules(masks)
        self._spent_s = spent_s
        self._top = Place([(rule, 0) for rule in rules])
        self._signs = _signs_of(rules)

    def mask(self, split: SplitBlob, *, wide: bool) -> SplitBlob:
        """The blob as outputs may see it; `split` itself if nothing in it is masked.

        Headers are those of the masked records; `served_headers` keeps those that identities
        are made of, so that what is known stays known when rules change. A record that can
        not be read is a fragment: quarantine keeps it as served, in the ledger's own
        directory, and no output gets it.
        """
        time = PatternTime(self._spent_s, len(split.records))
        masked: dict[int, bytes] = {}
        fragments = dict[int, Fragment]()
        for number in self._within_reach(split.records):
            record = split.records[number]
            try:
                changed = self._mask_record(record, time)
            except Unreadable:
                fragments[number] = Fragment(record, _NOT_MASKABLE)
                continue
            if changed is not None:
                masked[number] = changed
        if not masked and not fragments:
            return split
        headers = _headers_of(masked, wide=wide)
        for number in masked.keys() - headers.keys():
            fragments[number] = Fragment(split.records[number], _NOT_MASKABLE)
        kept = [number for number in range(len(split.records)) if number not in fragments]
        return SplitBlob(
            records=[masked.get(number) or split.records[number] for number in kept],
            headers=[headers.get(number) or split.headers[number] for number in kept],
            fragments=[*split.fragments, *fragments.values()],
            complete=split.complete,
            served_headers=[split.headers[number] for number in kept],
            overruns=time.overruns,
        )

    def _within_reach(self, records: list[bytes]) -> list[int]:
        """The numbers of the records that may have a place that a rule leads to."""
        reached = set[int]()
        for sign in self._signs:
            reached.update([number for number, record in enumerate(records) if sign in record])
        return sorted(reached)

    def _mask_record(self, record: bytes, time: PatternTime) -> bytes | None:
        """The masked record; None if it has nothing to mask."""
        # Bytes that are no UTF-8 travel through as lone surrogates and back.
        text = record.decode("utf-8", "surrogateescape")
        spans = find_spans(text, self._top, time)
        return replace_spans(text, spans).encode("utf-8", "surrogateescape") if spans else None


def _headers_of(records: dict[int, bytes], *, wide: bool) -> dict[int, Header]:
    """The header of each record that can be read, by its number."""
    bodies = list(records.values())
    headers = read_headers(b"[" + b",".join(bodies) + b"]", bodies, wide=wide)
    if headers is not None:
        return dict(zip(records, headers, strict=True))
    found: dict[int, Header] = {}
    for number, record in records.items():
        try:
            value = TOLERANT.decode(record.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found[number] = header_of_object(value, wide=wide)
    return found


def _signs_of(rules: Sequence[Rule]) -> frozenset[bytes]:
    """Bytes of which one at least stands in every record that a rule leads into.

    A rule's longest key is one, and an escape that may hide keys another: however a key is
    escaped, twice over in JSON that stands in a string, too, a backslash and "u00" stand
    there for a character of ASCII, but for the few that have an escape of their own.
    """
    names = [name for rule in rules for name in rule.names]
    signs = {max(rule.names, key=len, default="").encode("utf-8", "surrogatepass") for rule in rules}
    characters = "".join(names)
    if _SPECIAL.intersection(characters):
        return frozenset({*signs, b"\\"})
    return frozenset({*signs, b"\\u00" if characters.isascii() else b"\\u"})
