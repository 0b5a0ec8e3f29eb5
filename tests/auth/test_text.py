from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from m365watch.common.text import LENGTH_MAX, one_line


def test_only_the_first_line_of_an_answer_is_quoted() -> None:
    """Trace ids and times would make each failure look new."""
    said = "AADSTS90002: Tenant 'x' not found.\r\nTrace ID: 1\r\nTimestamp: 2"

    assert one_line(said) == "AADSTS90002: Tenant 'x' not found."


def test_trace_ids_after_a_space_are_left_out_too() -> None:
    """Newer answers separate with spaces."""
    assert one_line("AADSTS7: No. Trace ID: 1 Correlation ID: 2") == "AADSTS7: No."


def test_a_secret_is_hidden_as_it_is_and_as_a_form_carries_it() -> None:
    """A server may say back what it was sent."""
    assert one_line("got s/e c and s%2Fe+c", hide=["s/e c"]) == "got *** and ***"


@given(st.text(), st.lists(st.text(min_size=1, max_size=5), max_size=2))
def test_any_text_becomes_one_printable_line(said: str, hide: list[str]) -> None:
    """Whatever a service says, an error stays one bounded line."""
    line = one_line(said, hide=hide)

    assert len(line) <= LENGTH_MAX
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
