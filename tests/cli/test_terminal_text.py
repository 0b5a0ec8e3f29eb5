"""What records say to a terminal: nothing that it obeys, and nothing that a program would not get."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from m365watch.cli.lake.query_command import RowFormat, show_answer
from m365watch.cli.lake.search_command import search
from m365watch.cli.terminal.console import escaped
from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_record, make_simple_batch

HOSTILE = "\x1b[2J\x1b]0;mine\x07 \x9b2J \u202egro.elpmaxe\u2066 \rroot \x7f \U000e0041"
ANSWER = QueryAnswer(("who", HOSTILE), ("VARCHAR", "VARCHAR"), [("åse", f"a\n{HOSTILE}\tb")], truncated=False)


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def shown(row_format: RowFormat, sink: io.StringIO) -> str:
    with redirect_stdout(sink):
        show_answer(ANSWER, row_format)
    return sink.getvalue()


@pytest.mark.parametrize("row_format", RowFormat)
def test_no_form_of_an_answer_moves_a_terminal_or_turns_a_name_round(row_format: RowFormat) -> None:
    """ESC and BEL, CSI in eight bits, a bare CR, directions: written out or left out; colours are our own."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown(row_format, Terminal()))

    assert [one for one in text if not one.isprintable() and one not in "\n\t"] == []
    assert "åse" in text


def test_json_on_a_terminal_says_the_same() -> None:
    """Whoever copies it out of the window has what a program gets."""
    on_terminal, in_pipe = shown(RowFormat.JSON, Terminal()), shown(RowFormat.JSON, io.StringIO())

    assert json.loads(on_terminal) == json.loads(in_pipe)
    assert on_terminal != in_pipe


def test_a_program_gets_the_very_characters() -> None:
    """CSV in a pipe or a file is exact, and a bare CR ends no row."""
    rows = list(csv.reader(io.StringIO(shown(RowFormat.CSV, io.StringIO()), newline="")))

    assert rows == [list(ANSWER.columns), list(ANSWER.rows[0])]


def test_records_as_they_were_sent_move_no_terminal_either(tmp_path: Path) -> None:
    """The service writes a C1 control or a direction as it is, which JSON allows."""
    record = make_record(1).replace(b"contoso", "\x9b2J\u202e".encode())
    AuditWriter(tmp_path, app_id="test").append(make_simple_batch(1, [record], output="lake"))
    sink = Terminal()
    with redirect_stdout(sink):
        search([], lake=tmp_path, start="2026-11-16", end="2026-11-19", raw=True)

    text = sink.getvalue()
    assert [one for one in text if not one.isprintable() and one != "\n"] == []
    assert json.loads(text) == json.loads(record)


def test_what_people_write_stays_as_it_is() -> None:
    """Blanks of any width, letters and pictures of any script; lines and tabs."""
    text = "naïve\u00a0日本\u3000語 \U0001f600\tא\n"

    assert escaped(text) == text
