"""Values that JSON and YAML can say, of a structure that is right and of contents that are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from urllib.parse import quote

TEXTS = (
    "", " ", "a", "\0", "\ud800", "\udfff\ud800", "é", "\u202e", "\U0010ffff", "a" * 300, "x\ny", "\r\n", "null", "true",
    "~", "{}", "[]", '[{"Name":"a","Value":"b"}]', '{"a":{"a":{"a":1}}}', '["x"', "2026-11-17T09:00:00", "2026-11-17T09:00:00.1234567Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00", "24:00", "1.2.3.4:80", "[::1]:443", "::ffff:1.2.3.4",
    "fe80::1%eth0", "1.2.3", "0x7f.1", "١٢٣", "²", "1e999", "NaN", "-0", "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f", "alice@contoso.example",
    "https://a.example/%00", "http://[", "https://[x/sites/a/b.docx", "https://a]b/", "https://a.\u2100/", "https://127.9[]/x", "https://a:99999/", "//", "..", "../../x", "${X}", "(a+)+$", "(", "[z-a]", "*", "?", "%", "İ", "ß", "ﬀ",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    -1,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
)
_DEPTH_MAX = 5
_WIDTH_MAX = 5


def value(random: Random, names: Sequence[str], depth: int = 0) -> object:
    """A value whose keys are mostly some of these names."""
    kind = random.randrange(10 if depth < _DEPTH_MAX else 6)
    if kind < 3:
        return random.choice(TEXTS)
    if kind == 3:
        return random.choice((None, True, False))
    if kind < 6:
        return random.choice(NUMBERS)
    if kind < 8:
        return [value(random, names, depth + 1) for _ in range(random.randrange(_WIDTH_MAX))]
    return {
        random.choice(names) if random.random() < 0.9 else random.choice(TEXTS): value(
            random, names, depth + 1
        )
        for _ in range(random.randrange(_WIDTH_MAX))
    }


def json_text(random: Random, said: Sequence[object]) -> bytes:
    """One of the values as JSON, now and then in a way that strict readers refuse."""
    text = json.dumps(
        random.choice(said),
        indent=random.choice((None, None, None, 1)),
        ensure_ascii=random.random() < 0.5,
    )
    return text.encode("utf-8", random.choice(("surrogatepass", "replace")))


def changed(
    random: Random, good: object, names: Sequence[str], *, chance: float = 0.08, depth: int = 0
) -> object:
    """A good document in which some values are others."""
    if random.random() < chance:
        return value(random, names, depth)
    if isinstance(good, dict):
        made = {key: changed(random, one, names, chance=chance, depth=depth + 1) for key, one in good.items()}
        if made and random.random() < chance:
            made.pop(random.choice(list(made)))
        if random.random() < chance:
            made[random.choice(names)] = value(random, names, depth + 1)
        return made
    if isinstance(good, list):
        return [changed(random, one, names, chance=chance, depth=depth + 1) for one in good]
    return good


def texts_in_urls(random: Random) -> str:
    """A value as a URL has it."""
    text = random.choice((*TEXTS, "7d", "30d", "2026-11-17T09:00Z", "open", "high", "users", "9" * 30, "-1"))
    return quote(text, safe=random.choice(("", "/?:@&=+$,")), errors="surrogatepass")
