"""One word for one thing: names keep off the words that mean anything and therefore nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from sources import list_modules

AVOIDED = {
    "bookmark",
    "cursor",
    "data",
    "entry",
    "event",
    "handler",
    "helper",
    "item",
    "log",
    "manager",
    "message",
    "offset",
    "stream",
    "util",
}
"""The words of others for what is called blob, record, batch, watermark and output here."""

OF_OTHERS = {
    "_SHOW_CURSOR": "a terminal's cursor",
    "_log": "a logger, by the custom of its library",
    "data_received": "a call of asyncio",
    "log": "a logger, by the custom of its library",
    "log_errors": "an option of RE2",
    "message": "a key of Devo's alert definitions",
    "obfuscation_data": "a key of Devo's configuration",
    "offset": "the distance of a time zone from UTC",
    "on_message_begin": "a call of httptools",
    "on_message_complete": "a call of httptools",
    "queue_max_size_in_messages": "a key of Devo's configuration",
    "queue_wrap_max_size_in_messages": "a key of Devo's configuration",
    "unused_data": "how zlib and its kin call what follows a member",
    "utc_offset_h": "the distance of a time zone from UTC",
}
"""Names that are right all the same, and whose they are."""

LINES_MAX = 60
MODULE_LINES_MAX = 500


def test_names_keep_off_empty_words() -> None:
    """A name is made of the words that the architecture page defines."""
    assert [
        f"{module}: {name}"
        for module, tree in list_modules().items()
        for name in [*module.split("."), *names_in(tree)]
        if name not in OF_OTHERS and AVOIDED & set(words_of(name))
    ] == []


def test_no_function_processes() -> None:
    """A function says what it does: it plans, lists, fetches, parses, delivers."""
    assert [
        f"{module}: {node.name}"
        for module, tree in list_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.lstrip("_") == "process" or node.name.lstrip("_").startswith("process_")
    ] == []


def test_words_are_told_apart() -> None:
    """A word counts in any case and in the plural; a part of a word does not."""
    assert words_of("HTTPEventStream_items2") == ["http", "event", "stream", "item"]
    assert not AVOIDED & set(words_of("catalogue_database_processor"))


def test_functions_fit_on_a_page() -> None:
    """No function is longer than 60 lines."""
    assert [
        f"{module}: {node.name} has {length} lines"
        for module, tree in list_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > LINES_MAX
    ] == []


def test_modules_hold_one_idea() -> None:
    """No module is longer than 500 lines."""
    assert [
        f"{module} has {length} lines"
        for module, tree in list_modules().items()
        if (length := max((node.end_lineno or 0 for node in tree.body), default=0)) > MODULE_LINES_MAX
    ] == []


def names_in(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def words_of(name: str) -> list[str]:
    """The words of a name in lower case and in the singular."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return [word if word in AVOIDED else singular(word) for word in words]


def singular(word: str) -> str:
    """A word without its plural's ending."""
    return f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s")
