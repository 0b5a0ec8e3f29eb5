"""Every field that a step is made of is one that detection keeps for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from expand import case_files, read_yaml
from verdicts import packs

from m365watch.detection.engine.purposes import kept_fields
from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.plans.planner import BUILDERS

ENTITIES = {
    "user": ("ann@contoso.example",),
    "mailbox": ("bob",),
    "grantee": ("eve",),
    "site": ("https://contoso.example/sites/a",),
    "domain": ("contoso.example",),
    "app": ("0f8fad5b-d9cb-469f-a165-70867728950e",),
    "guest": ("eve_x.example#EXT#@contoso.example",),
}

_OF_NO_ENTITY = {"m365.app", "ModifiedProperties.ServicePrincipal.AppId.new"}
"""What stands in where a rule names no application; each of the packs that is about one names it."""


class Asked(Mapping[str, tuple[str, ...]]):
    """Fields of a record that has its operation alone; what else is asked for is written down."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> tuple[str, ...]:
        self.names.add(name)
        if name == "Operation":
            return (self.operation,)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("Operation",))

    def __len__(self) -> int:
        return 1


def operations_of(value: object) -> Iterator[str]:
    """Every operation that stands anywhere in cases of rules."""
    if isinstance(value, dict):
        if isinstance(value.get("Operation"), str):
            yield value["Operation"]
        for one in value.values():
            yield from operations_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from operations_of(one)


OPERATIONS = sorted({one for path in case_files() for one in operations_of(read_yaml(path))})


@pytest.mark.parametrize("word", sorted(BUILDERS))
def test_what_a_step_is_made_of_is_kept(word: str) -> None:
    """Whichever of the packs' operations it is about: by a field of another name it would know nothing."""
    asked: set[str] = set()
    for operation in ("", *OPERATIONS):
        for entities in (ENTITIES, {}):
            fields = Asked(operation)
            BUILDERS[word](Clues(entities, fields, "2026-11-02T09:00:00Z"))
            asked |= fields.names
    rules = [rule for rule in packs().rules if word in rule.extension.contain]
    kept = {field for rule in rules for field in kept_fields(rule)}

    assert asked - kept - _OF_NO_ENTITY == set()
