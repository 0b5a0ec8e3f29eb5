"""What an investigation counts of values that its view is narrowed to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asking import view_of
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.entity_counts import AT_ONCE_MAX, _course, list_compared, list_values
from m365watch.board.query.sql import entity_queries as trails


@pytest.mark.parametrize("at_once", [AT_ONCE_MAX, 0])
@pytest.mark.parametrize("about", ["app", "ip"])
def test_of_what_a_view_is_narrowed_to_only_addresses_are_compared(
    sources: Sources, about: str, at_once: int
) -> None:
    """The page leaves out the others; addresses are in countries, which it compares as well."""
    every = view_of("range=30d&workload=Exchange")
    column = {"app": "app_id", "ip": "client_ip"}[about]
    [(_, value, *_), *_] = [one for one in asyncio.run(list_values(every, sources)) if one[0] == column]
    view = view_of(f"range=30d&workload=Exchange&{about}={value}")
    few, all_of_them = (
        asyncio.run(one(view, sources, at_once=at_once)) for one in (list_compared, list_values)
    )
    compared = {one for one in trails.COMPARED if one != "app_id" or about == "ip"}

    kept = [row for row in few if row[0] in compared]

    assert {row[0] for row in kept} == compared
    assert sorted(kept) == sorted(row for row in all_of_them if row[0] in compared)


def test_the_course_of_a_name_with_a_star_is_its_own(sources: Sources) -> None:
    """In a view `*` stands for anything: such a name would be that of many."""
    every = view_of("range=30d")
    users = [one[1] for one in asyncio.run(list_values(every, sources, at_once=0)) if one[0] == "user_id"][:2]

    def course(*tops: str) -> set[tuple[Any, ...]]:
        return set(asyncio.run(_course(every, sources, "user_id", list(tops))))

    assert len(users) == 2
    assert {row[1] for row in course(*users)} == set(users)
    assert course("*") == set()
    assert course(*users, "*") == course(*users)
