"""A section of a configuration's text is put, taken or switched, and nothing else of the text changes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.config.document import Pairs, Unreadable, parse_document
from m365watch.config.editor.sections import put_section, section_text, set_switch, take_section

YAML = """\
# ours
inputs:
  a:   # the first
    # of ours
    type: office365   # kept
    services:
      exchange:
      dlp: {start_time_in_utc: "2026-11-17"}
    # its end
  "b": {type: office365, services: {exchange: }}
# between
outputs:
  lake:
    type: lake
"""
JSON = json.dumps({"inputs": {"a": {"type": "office365", "services": {"exchange": None}}, "b": {}}}, indent=2)


def test_a_section_is_read_with_its_comments() -> None:
    """As a text of its own: what is indented in the file begins at the margin."""
    assert section_text(YAML, ("inputs", "a"), suffix=".yaml").splitlines() == [
        "# of ours",
        "type: office365   # kept",
        "services:",
        "  exchange:",
        '  dlp: {start_time_in_utc: "2026-11-17"}',
        "# its end",
    ]
    assert section_text(YAML, ("inputs", "b"), suffix=".yaml") == "{type: office365, services: {exchange: }}"
    assert section_text(YAML, ("inputs", "a", "services", "exchange"), suffix=".yaml") == ""


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("path", [("inputs", "a"), ("inputs", "b"), ("outputs", "lake"), ("inputs",)])
def test_what_is_put_back_unchanged_changes_no_byte(path: tuple[str, ...], line_break: str) -> None:
    """Comments, quotation marks, indentation and line breaks stay."""
    text = YAML.replace("\n", line_break)

    assert put_section(text, path, section_text(text, path, suffix=".yaml"), suffix=".yaml") == text


def test_one_section_changes_and_its_neighbours_do_not() -> None:
    """Block, brackets, or a key that is new: each in the way of what is around it."""
    edited = put_section(YAML, ("inputs", "a"), "type: office365\nid: x", suffix=".yaml")
    assert edited == YAML.replace(
        YAML[YAML.index("    # of ours") : YAML.index('  "b"')], "    type: office365\n    id: x\n"
    )
    bracket = put_section(YAML, ("inputs", "b"), "{type: office365}", suffix=".yaml")
    assert bracket == YAML.replace("{type: office365, services: {exchange: }}", "{type: office365}")
    added = put_section(YAML, ("outputs", "files"), "type: files", suffix=".yaml")
    assert added == YAML + "  files:\n    type: files\n"
    assert take_section(added, ("outputs", "files"), suffix=".yaml") == YAML


def test_keys_that_are_missing_come_with_the_section() -> None:
    """The first output of a file without outputs, in YAML and in JSON, at its place in either."""
    assert put_section("inputs:\n  a: {}", ("outputs", "x"), "type: lake", suffix=".yaml") == (
        "inputs:\n  a: {}\noutputs:\n  x:\n    type: lake\n"
    )
    assert put_section("outputs:   # none\ninputs: {}\n", ("outputs", "x"), "a: 1", suffix=".yaml")
    changed = put_section(JSON, ("outputs", "x"), "type: lake  # typed as YAML", suffix=".json")
    assert json.loads(changed) == json.loads(JSON) | {"outputs": {"x": {"type": "lake"}}}
    assert changed.startswith(JSON[:-3])


@pytest.mark.parametrize(
    ("text", "path", "suffix"),
    [
        (YAML, ("inputs", "a"), ".yaml"),
        (YAML, ("inputs", "b"), ".yaml"),
        (YAML, ("inputs", "a", "services", "exchange"), ".yaml"),
        (YAML, ("inputs", "a", "services", "dlp"), ".yaml"),
        (YAML, ("inputs", "b", "services", "exchange"), ".yaml"),
        (JSON, ("inputs", "a"), ".json"),
        (JSON, ("inputs", "b"), ".json"),
        (JSON, ("inputs", "a", "services", "exchange"), ".json"),
    ],
)
def test_a_switch_is_written_where_it_belongs(text: str, path: tuple[str, ...], suffix: str) -> None:
    """Off is written in, and on again changes one word of it."""
    off = set_switch(text, path, on=False, suffix=suffix)

    assert _at(off, path, suffix)["enabled"] is False
    assert set_switch(off, path, on=True, suffix=suffix) == off.replace("false", "true")
    assert len(off.splitlines()) - len(text.splitlines()) in {0, 1}


@pytest.mark.parametrize(
    "hostile",
    [
        "a: 1\n---\nb: 2",
        "a: &x 1\nb: *x",
        "a: 1\n  b: 2",
        "!!python/object:os.system x",
        "{",
        "a: [",
        "\tb: 1",
    ],
)
def test_nothing_breaks_out_of_its_section(hostile: str) -> None:
    """What is no section by itself is refused, wherever it would go."""
    for text, suffix in ((YAML, ".yaml"), (JSON, ".json")):
        with pytest.raises(Unreadable):
            put_section(text, ("inputs", "a"), hostile, suffix=suffix)


def test_the_last_of_its_kind_stays() -> None:
    """An empty object of outputs would mean another thing than none."""
    with pytest.raises(Unreadable, match="switch it off"):
        take_section(YAML, ("outputs", "lake"), suffix=".yaml")


SECTIONS = st.text(alphabet="ab:#{}[],- \"'\n|>&*!%\t1", max_size=40)


@guarantee(44)
@given(SECTIONS, st.sampled_from([("inputs", "a"), ("inputs", "b"), ("outputs", "new"), ("x", "y")]))
def test_whatever_is_typed_stands_there_alone_or_is_refused(section: str, path: tuple[str, ...]) -> None:
    """The document after it is the one before with the section at its place, whatever its text is."""
    for text, suffix in ((YAML, ".yaml"), (JSON, ".json")):
        with suppress(Unreadable):
            changed = put_section(text, path, section, suffix=suffix)

            assert _at(changed, path, suffix) == _plain(parse_document(section, suffix=".yaml"))
            rest = {key: value for key, value in _at(changed, (), suffix).items() if key != path[0]}
            before = {key: value for key, value in _at(text, (), suffix).items() if key != path[0]}
            assert rest == before


def _at(text: str, path: tuple[str, ...], suffix: str) -> Any:
    found = _plain(parse_document(text, suffix=suffix))
    for key in path:
        found = found[key]
    return found


def _plain(value: object) -> Any:
    if isinstance(value, Pairs):
        return {key: _plain(child) for key, child in value}
    return [_plain(one) for one in value] if isinstance(value, list) else value
