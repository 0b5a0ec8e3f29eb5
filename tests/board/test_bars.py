"""Bars of lanes, which no template makes: where they stand, how wide and how dark they are."""

from __future__ import annotations

from m365watch.board.widgets.template_renderer import bars_of
from m365watch.board.widgets.widget_types import Lane


def test_a_bar_stands_where_its_step_is() -> None:
    """The most is darkest, and what did not happen has no bar."""
    bars = bars_of(Lane("mail", "", "c1", [0, 1_600, 0, 100]), ["one", "two", "three", "four"])

    assert bars == (
        '<rect class="fill-c1" x="25.000%" width="22.500%" height="100%" fill-opacity="1.00">'
        "<title>two: 1,600</title></rect>"
        '<rect class="fill-c1" x="75.000%" width="22.500%" height="100%" fill-opacity="0.44">'
        "<title>four: 100</title></rect>"
    )


def test_a_bar_among_thousands_is_still_seen() -> None:
    """It is wider than its step then; and what is said of it is text."""
    bars = bars_of(Lane("mail", "", "c1", [*[0] * 999, 1]), ['<b>"'] * 1_000)

    assert bars == (
        '<rect class="fill-c1" x="99.900%" width="0.350%" height="100%" fill-opacity="1.00">'
        "<title>&lt;b&gt;&#34;: 1</title></rect>"
    )


def test_a_lane_of_nothing_has_no_bar() -> None:
    """Neither where nothing happened, nor where there are no steps."""
    assert bars_of(Lane("mail", "", "c1", [0, 0]), ["one", "two"]) == ""
    assert bars_of(Lane("mail", "", "c1"), []) == ""
