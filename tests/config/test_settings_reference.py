from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from m365watch.config.loader import example_settings
from m365watch.config.models.base import Section
from m365watch.config.models.schema import configuration_file
from m365watch.config.reference import render_reference, words_below
from m365watch.config.validation import sections_in

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def every_section(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        for inner in sections_in(field.annotation):
            yield from every_section(inner)


def test_the_page_of_settings_is_what_the_schema_says() -> None:
    """`docs/reference/settings.md` is generated; run `./dev docs` after a change of the schema."""
    assert render_reference() == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "section", dict.fromkeys(every_section(configuration_file())), ids=lambda section: section.__name__
)
def test_every_key_says_what_it_means_and_what_it_wants(section: type[Section]) -> None:
    """A key without a text would be a row without a meaning and a mistake without a cure."""
    words = words_below(section)
    silent = [name for name, field in section.model_fields.items() if not (field.title and words.get(name))]

    assert silent == []
    assert inspect.getdoc(section)


def test_the_page_shows_the_example() -> None:
    """What a reader copies from the page is what the tests load."""
    assert example_settings() in render_reference()
