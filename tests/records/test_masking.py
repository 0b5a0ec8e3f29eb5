"""`obfuscation_data`: what a rule names is masked however it is written, and nothing else changes."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from masks_written import mask_of
from promises import guarantee

from m365watch.common.clock import thread_cpu_s
from m365watch.common.model import TenantId, WideHeader
from m365watch.config.defaults import ANY_TEXT
from m365watch.config.models.inputs import MaskSection
from m365watch.records.identity import IdentityMaker
from m365watch.records.masking import Masker, PatternTime, Rule
from m365watch.records.split import SplitBlob, split_blob

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
USER = mask_of(("UserId",), "***", ())
HOSTS = mask_of(("Hosts", "*", "Name"), "host", ())
DIGITS = mask_of(("a", "*"), "#", ("[0-9]+",))
LETTERS = mask_of(("a", "*", "b"), "", ("[x-z]+", "w"))


def masker(*masks: MaskSection) -> Masker:
    return Masker(masks, spent_s=thread_cpu_s)


def split_of(*records: bytes, wide: bool = False) -> SplitBlob:
    return split_blob(b"[" + b",".join(records) + b"]", wide=wide)


def masked(record: bytes, *masks: MaskSection) -> bytes:
    """The one record, masked."""
    found = masker(*masks).mask(split_of(record), wide=False)
    assert not found.fragments
    return found.records[0]


# A writer that writes each value twice at once, as it is and as it has to come out.

Piece = tuple[str, str]


@dataclass(frozen=True)
class Inner:
    """JSON that stands as text in a string."""

    value: object


class Writer:
    """Spells one value in one of the many ways that JSON has, plain and masked side by side."""

    def __init__(self, masks: list[MaskSection], chance: random.Random) -> None:
        self.masks = masks
        self.chance = chance

    def write(self, value: object, standing: list[tuple[MaskSection, int]]) -> list[Piece]:
        ended = [mask for mask, passed in standing if passed == len(mask.name)]
        patterned = [mask for mask in ended if mask.string_patterns]
        if whole := [mask for mask in ended if not mask.string_patterns]:
            plain = joined(self.write(value, []), 0)
            return [(plain, plain if value is None else json.dumps(whole[0].value))]
        if isinstance(value, Inner):
            inner = value.value if not patterned else "plain text"
            ahead = [(mask, passed) for mask, passed in standing if passed < len(mask.name)]
            return self.quoted(self.write(inner, ahead)) if not patterned else self.text("plain", patterned)
        if isinstance(value, str):
            return self.text(value, patterned)
        if isinstance(value, tuple | list):
            return self.container(value, standing)
        number = self.chance.choice(["17", "-0.50", "1E5", "NaN", "true"]) if value else "null"
        pieces = matches(number, patterned) if value else [(number, number)]
        changed = joined(pieces, 1)
        return [(number, json.dumps(changed) if changed != number else number)]

    def container(self, value: object, standing: list[tuple[MaskSection, int]]) -> list[Piece]:
        """A tuple of pairs is an object (keys may be doubled), a list an array."""
        assert isinstance(value, tuple | list)
        pieces = [same("{" if isinstance(value, tuple) else "[")]
        for number, member in enumerate(value):
            name, inner = member if isinstance(value, tuple) else (str(number), member)
            pieces += [same("," if number else ""), same(self.space())]
            if isinstance(value, tuple):
                pieces += [*self.quoted([same(name)]), same(self.space() + ":" + self.space())]
            below = [
                (mask, min(passed + 1, len(mask.name)))
                for mask, passed in standing
                if passed == len(mask.name) or mask.name[passed] in ("*", name)
            ]
            pieces += [*self.write(inner, below), same(self.space())]
        return [*pieces, same("}" if isinstance(value, tuple) else "]")]

    def text(self, value: str, patterned: list[MaskSection]) -> list[Piece]:
        return self.quoted(matches(value, patterned))

    def quoted(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces as a string: what is masked in them is masked in it, the rest is spelled once."""
        spelled = []
        for plain, instead in pieces:
            written = "".join(map(self.character, plain))
            spelled.append((written, written if plain == instead else json.dumps(instead)[1:-1]))
        return [same('"'), *spelled, same('"')]

    def character(self, one: str) -> str:
        short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\t": "\\t"}
        ways = [json.dumps(one)[1:-1].upper().replace("\\U", "\\u")] if not one.isascii() else []
        ways += [f"\\u{ord(one):04x}"] if ord(one) < 0x10000 else []
        ways += [short[one]] * 3 if one in short else []
        ways += [one] * 6 if one not in '"\\\n\r' and not 0xD800 <= ord(one) < 0xE000 else []
        return self.chance.choice(ways)

    def space(self) -> str:
        return self.chance.choice(["", "", "", " ", "\t "])


def same(text: str) -> Piece:
    return text, text


def joined(pieces: list[Piece], side: int) -> str:
    return "".join(piece[side] for piece in pieces)


def matches(text: str, patterned: list[MaskSection]) -> list[Piece]:
    """The text in pieces, those that a pattern matches with what stands there instead; none overlap."""
    spans = sorted(
        (found.start(), found.end(), mask.value)
        for mask in patterned
        for pattern in mask.string_patterns
        for found in re.finditer(pattern, text)
    )
    pieces, at = [], 0
    for start, end, instead in spans:
        pieces += [same(text[at:start]), (text[start:end], instead)]
        at = end
    return [*pieces, same(text[at:])]


NAMES = st.sampled_from(["a", "b", "UserId", "Hosts", "Name", "*", "0", 'q"/\\', "ü😀", "UserId2"])
TEXTS = st.text(alphabet='a1234xyzw "\\/\t\nü€😀\ud800\udc00@', max_size=8)
VALUES = st.recursive(
    st.none() | st.just(True) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(NAMES, inner), max_size=4).map(tuple)
        | st.lists(st.tuples(NAMES, inner), max_size=3).map(tuple).map(Inner)
    ),
    max_leaves=15,
)
RECORDS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple)
RULES = st.lists(
    st.sampled_from(
        [
            USER,
            HOSTS,
            DIGITS,
            LETTERS,
            mask_of(("a", "b", "UserId"), 'say "no" ü', ()),
            mask_of(("*", "Name"), "n", ()),
            mask_of(('q"/\\',), "q", ()),
            mask_of(("b", "ü😀"), "-", ()),
            mask_of(("Hosts", "0"), "first", ()),
        ]
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


@guarantee(11)
@pytest.mark.slow
@given(RECORDS, RULES, st.randoms(use_true_random=False))
def test_what_rules_name_is_masked_and_every_other_byte_stays(
    value: tuple[tuple[str, object], ...], masks: list[MaskSection], chance: random.Random
) -> None:
    """Doubled and escaped keys, odd spaces, numbers and surrogates, JSON in strings, wherever they stand."""
    pieces = Writer(masks, chance).write(value, [(mask, 0) for mask in masks])
    plain, expected = (joined(pieces, side).encode("utf-8", "surrogatepass") for side in (0, 1))

    found = masker(*masks).mask(SplitBlob([plain], split_of(b"{}").headers), wide=False)

    assert (found.records, found.fragments) == ([expected], [])
    json.loads(found.records[0], strict=False)


@guarantee(11)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\uUserId05 1n', max_size=60).map(str.encode))
def test_bytes_that_are_no_record_are_masked_or_refused_and_never_passed_on_with_a_named_value(
    body: bytes,
) -> None:
    """Whatever is decodable afterwards has the mask where the rule points, and what is not is a fragment."""
    found = masker(USER).mask(SplitBlob([body], split_of(b"{}").headers), wide=False)

    assert len(found.records) + len(found.fragments) == 1
    for record in found.records:
        try:
            pairs = json.loads(record, strict=False, object_pairs_hook=list)
        except ValueError:
            assert b"UserId" not in record
            continue
        named = [pair[1] for pair in pairs if pair[0] == "UserId"] if record.lstrip()[:1] == b"{" else []
        assert set(map(str, named)) <= {"***", "None"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (rb'{"\u0055serId":"eve","UserId" :"eve"}', rb'{"\u0055serId":"***","UserId" :"***"}'),
        (b'{"UserId":17.50}', b'{"UserId":"***"}'),
        (b'{"UserId":null}', b'{"UserId":null}'),
        (b'{"UserId":{"a":[1,{"b":"eve"}]},"n":1.0}', b'{"UserId":"***","n":1.0}'),
        (rb'{"UserId":"\ud800","a":NaN}', rb'{"UserId":"***","a":NaN}'),
        (b'{"a":"\xff","UserId":"e\xffe"}', b'{"a":"\xff","UserId":"***"}'),
        (b'{"a":{"UserId":"eve"}}', b'{"a":{"UserId":"eve"}}'),
        (b'{"UserID":"eve"}', b'{"UserID":"eve"}'),
    ],
)
def test_a_whole_value_is_replaced_by_text(record: bytes, expected: bytes) -> None:
    """Of whatever kind it is, but for null; only where the path leads, in the case it is written in."""
    assert masked(record, USER) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (rb'{"a":["tel \u0030123\/4, \u00fc"]}', rb'{"a":["tel #\/#, \u00fc"]}'),
        (b'{"a":[{"x1":"x1"},12,-1.5e3,true]}', b'{"a":[{"x1":"x#"},"#","-#.#e#",true]}'),
        (b'{"a":"12"}', b'{"a":"12"}'),
        (rb'{"a":["\ud83d\ude001\ud83d"]}', rb'{"a":["\ud83d\ude00#\ud83d"]}'),
    ],
)
def test_patterns_replace_only_what_they_match(record: bytes, expected: bytes) -> None:
    """In text here and below, keys left alone; the rest of the string keeps its spelling."""
    assert masked(record, DIGITS) == expected


def test_matches_that_overlap_are_masked_as_one() -> None:
    """Each pattern sees the text as it was, so none uncovers what another one covers."""
    rule = mask_of(("a",), "-", ("abc", "bcd", "x*"))

    assert masked(b'{"a":"0abcd0"}', rule) == b'{"a":"0-0"}'


def test_json_in_a_string_is_entered_by_a_path_that_goes_on() -> None:
    """Microsoft writes objects as text; all but the value keeps its spelling on both levels."""
    rule = mask_of(("Properties", "*", "Value", "Agent"), "***", ())
    record = (
        rb'{"Properties":[{"Value":"{\"Agent\":\"Eve\\u0021\", \"n\":1.0,\"p\":\"\/\"}"},{"Value":"Agent"}]}'
    )
    expected = rb'{"Properties":[{"Value":"{\"Agent\":\"***\", \"n\":1.0,\"p\":\"\/\"}"},{"Value":"Agent"}]}'

    assert masked(record, rule) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"{\"Agent\":\"Ev"', b'"***"'),
        (rb'"{\"\\u0041gent\":\"Ev"', b'"***"'),
        (b'"[External] Hello"', b'"[External] Hello"'),
    ],
)
def test_json_in_a_string_that_was_cut_short_is_masked_whole(text: bytes, expected: bytes) -> None:
    """Nobody can say where the value in it ends; text in brackets without the key is none of that."""
    rule = mask_of(("Value", "Agent"), "***", ())

    assert masked(b'{"Value":' + text + b"}", rule) == b'{"Value":' + expected + b"}"


@pytest.mark.slow
@pytest.mark.parametrize("depth", [900, 1_000, 100_000])
@pytest.mark.parametrize("rule", [USER, mask_of(("d",), "***", ("eve",))])
def test_depth_is_no_hiding_place(depth: int, rule: MaskSection) -> None:
    """What a decoder cannot follow is masked or refused, and never passed on as it was."""
    deep = b'{"d":' + b"[" * depth + b'"eve"' + b"]" * depth + b',"UserId":"eve"}'

    found = masker(rule).mask(SplitBlob([deep], split_of(b"{}").headers), wide=False)

    assert len(found.records) + len(found.fragments) == 1
    assert all(record.count(b"***") == 1 for record in found.records)
    assert found.records or depth > 900


@pytest.mark.parametrize(
    ("record", "path", "expected"),
    [
        (rb'{"a\/b":"eve"}', ("a/b",), rb'{"a\/b":"*"}'),
        (rb'{"\"\\":"eve"}', ('"\\',), rb'{"\"\\":"*"}'),
        (rb'{"\u20AC":"eve"}', ("€",), rb'{"\u20AC":"*"}'),
        (rb'{"\ud83D\ude00":"eve"}', ("😀",), rb'{"\ud83D\ude00":"*"}'),
        (b'{"t\tb":"eve"}', ("t\tb",), b'{"t\tb":"*"}'),
        (b'{"a":[0,0,0,0,0,0,0,0,0,0,"eve",0]}', ("a", "10"), b'{"a":[0,0,0,0,0,0,0,0,0,0,"*",0]}'),
        (b'{"a":{"10":"eve"}}', ("a", "10"), b'{"a":{"10":"*"}}'),
        (b'{"x":{"b":"eve"},"y":[{"b":"eve"}]}', ("*", "b"), b'{"x":{"b":"*"},"y":[{"b":"eve"}]}'),
        (b'{"x":"eve","y":[1]}', ("*",), b'{"x":"*","y":"*"}'),
    ],
)
def test_a_path_finds_its_key_in_every_spelling(
    record: bytes, path: tuple[str, ...], expected: bytes
) -> None:
    """Characters with escapes of their own, of other planes, raw control characters; places of arrays."""
    assert masked(record, mask_of(path, "*", ())) == expected


def test_null_stays_whatever_a_pattern_says() -> None:
    """There is nothing in it to mask."""
    assert masked(b'{"a":null,"b":[null]}', mask_of(("*",), "*", (".+",))) == b'{"a":null,"b":[null]}'


@pytest.mark.parametrize(
    "record",
    [
        b'{"a":{}x"UserId":"eve"}',
        b'{"a":1 "UserId":"eve"}',
        b'{"UserId":"eve"',
        b'{"UserId":"eve"}}',
        b'{"UserId" "eve"}',
        b'{"UserId":"eve}',
        b'{"UserId":}',
        b'{"UserId":["eve"}',
        b'{"UserId":"eve",}',
        b'{"a":{"b":"UserId}}',
        rb'{"\x":1,"UserId":"eve"}',
        b"UserId",
        b'"UserId',
    ],
)
def test_what_is_no_json_is_refused(record: bytes) -> None:
    """Nobody can say where the named value begins and ends."""
    found = masker(USER).mask(SplitBlob([record], split_of(b"{}").headers), wide=False)

    assert (found.records, [fragment.body for fragment in found.fragments]) == ([], [record])


def test_a_record_that_cannot_be_read_is_a_fragment_and_its_neighbours_are_masked() -> None:
    """No output gets it; quarantine keeps it as it was served."""
    broken, user = b'{"UserId":"eve","a":tru}', b'{"UserId":"eve"}'
    split = SplitBlob([user, broken, user], split_of(user, user, user).headers)

    found = masker(USER).mask(split, wide=False)

    assert found.records == [b'{"UserId":"***"}'] * 2
    assert [fragment.body for fragment in found.fragments] == [broken]
    assert len(found.headers) == len(found.served_headers or ()) == 2


def test_a_blob_without_the_keys_comes_back_as_it_is() -> None:
    """No copy, no other object."""
    split = split_of(b'{"a":1}', b'{"a":2}')

    assert masker(USER, HOSTS).mask(split, wide=False) is split


@guarantee(11)
def test_typed_columns_show_the_masked_value_and_identities_the_served_one() -> None:
    """A column would tell what the record no longer says; a new rule must not make known records new."""
    record = b'{"Id":"1","CreationTime":"2026-11-24T11:00:00","UserId":"eve","ClientIP":"192.0.2.1"}'
    rules = [USER, mask_of(("Id",), "***", ()), mask_of(("ClientIP",), "0", (r"\d+$",))]
    split = split_of(record, b'{"Id":"2"}', wide=True)

    found = masker(*rules).mask(split, wide=True)

    header = found.headers[0]
    assert isinstance(header, WideHeader)
    assert (header.Id, header.UserId, header.ClientIP) == ("***", "***", "192.0.2.0")
    maker, tenant = IdentityMaker(1), TenantId("t")
    served = found.served_headers or []
    assert maker.identities(tenant, served) == maker.identities(tenant, split.headers)


def test_a_record_with_an_odd_field_has_a_masked_header_all_the_same() -> None:
    """The quick decoder refuses it; the header must not fall back to the served one."""
    found = masker(USER).mask(
        split_of(rb'{"Id":5,"UserId":"eve","a":"\ud800","n":NaN}', wide=True), wide=True
    )

    header = found.headers[0]
    assert isinstance(header, WideHeader)
    assert (header.Id, header.UserId) == ("5", "***")


HOSTILE = "a." * 5_000
SLOW = mask_of(("Subject",), "***", (r"([a-z]+\.)+x",))


@guarantee(11)
def test_a_pattern_that_takes_too_long_costs_the_value_and_no_time() -> None:
    """Text made to keep a pattern busy is masked whole."""
    found = masker(SLOW).mask(split_of(b'{"Subject":"%s"}' % HOSTILE.encode()), wide=False)

    assert (found.records, found.overruns) == ([b'{"Subject":"***"}'], 1)


class Disturbed:
    """A pattern whose first search ends for what other threads did meanwhile, and whose second finds `b`."""

    searches = 0

    def finditer(self, text: str, *, timeout: float) -> Iterator[re.Match[str]]:
        assert timeout > 0
        self.searches += 1
        if self.searches == 1:
            raise TimeoutError
        return re.finditer("b", text)


def test_the_work_of_other_threads_masks_no_value() -> None:
    """The bound of a search counts them too: on a busy machine the time of a record was masked."""
    patterns = PatternTime(thread_cpu_s, records=1)
    rule = Rule(("*",), "***", '"***"', (cast("regex.Pattern[str]", Disturbed()),))

    assert (patterns.find(rule, "abc"), patterns.overruns) == ([(1, 2)], 0)


def test_time_for_patterns_is_bounded_for_a_whole_blob() -> None:
    """Many values just below the bound of one would add up."""
    records = [b'{"Subject":"a","n":%d}' % number for number in range(1_000)]
    slow = Masker([mask_of(("Subject",), "***", ("b",))], spent_s=Ticking())

    found = slow.mask(split_of(*records), wide=False)

    assert 0 < found.overruns < 1_000
    assert found.records.count(records[0]) == 1
    assert found.records[-1] == b'{"Subject":"***","n":999}'


class Ticking:
    """10 ms more with every look, as if a pattern had been at work since the last."""

    looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks / 100


def test_a_collector_that_the_machine_lets_wait_masks_no_more_for_it() -> None:
    """What passes while it does no work is no time of the patterns."""
    records = [b'{"Subject":"a","n":%d}' % number for number in range(3)]
    kept = Masker([mask_of(("Subject",), "***", ("b",))], spent_s=Waiting())

    found = kept.mask(split_of(*records), wide=False)

    assert (found.records, found.overruns) == (records, 0)


class Waiting:
    """What a thread has spent that sleeps for much longer than a blob may take, at every look."""

    def __call__(self) -> float:
        time.sleep(0.2)
        return thread_cpu_s()


@pytest.mark.parametrize(
    "value", [b'"a"', b'"line\\nbreak"', b'""', b"12", b"true", b'["a",{"b":"c"}]', b'"\\ud83d"', b"null"]
)
def test_the_pattern_of_any_text_is_read_as_any_other(value: bytes) -> None:
    """It is known without being searched for, and masks what the expression would."""
    record = b'{"Subject":' + value + b"}"
    written_otherwise = "(?s)(?:.+)"

    found, expected = (
        masker(mask_of(("Subject",), "***", (pattern,))).mask(split_of(record), wide=False).records
        for pattern in (ANY_TEXT, written_otherwise)
    )

    assert found == expected


def test_a_pattern_that_is_none_is_refused_at_the_start() -> None:
    """The configuration names it before anything is collected."""
    with pytest.raises(regex.error):
        masker(mask_of(("a",), "", ("(",)))
