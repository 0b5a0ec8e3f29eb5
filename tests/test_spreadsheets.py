"""What a spreadsheet would calculate is shown to it as text."""

from __future__ import annotations

import pytest

from m365watch.common.csv_export import without_formula


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "  =1+1",
        "\u3000=1",
        "\uff1d1+1",
        "--1",
        "-1e9x",
        "\ufeff=1",
        " \u200b\ufeff@SUM(A1)",
    ],
)
def test_a_formula_stands_behind_an_apostrophe(text: str) -> None:
    """Blanks before it, wide signs and a number with more behind it help nobody."""
    assert without_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "1-1", "-4.2", "-7", "0.5"])
def test_all_else_is_as_it_was(text: str) -> None:
    """A number below zero too: a longitude is one."""
    assert without_formula(text) == text
