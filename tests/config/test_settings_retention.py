"""How long records stay in a lake: what may be set, and what is refused."""

from __future__ import annotations

import pytest

from m365watch.common.errors import SettingsRefused
from m365watch.config.models.retention import Retention, TableRetention
from m365watch.outputs.lake.spec import LakeSection
from settings_documents import filled_in, settings_of

EXCHANGE = "cloud.office365.management.exchange"


def retention_of(given: object) -> Retention:
    """The retention of a lake with these options."""
    outputs = {"lake": {"type": "lake", "config": {"retention": given}}}
    (lake,) = settings_of(filled_in() | {"outputs": outputs}).outputs
    assert isinstance(lake, LakeSection)
    return lake.config.retention


def test_left_out_nothing_ever_goes() -> None:
    """A lake keeps what it has unless somebody says otherwise."""
    assert retention_of({}) == Retention()
    assert not retention_of({}).is_set


def test_days_and_megabytes_for_all_and_for_one() -> None:
    """A megabyte is a million bytes, as in the files output."""
    given = {"days": "365", "megabytes": 2, "tables": {EXCHANGE: {"days": 90}, "a.b": {"megabytes": 1}}}

    retention = retention_of(given)

    assert (retention.days, retention.size_bytes) == (365, 2_000_000)
    assert retention.tables == {"a.b": TableRetention(megabytes=1), EXCHANGE: TableRetention(days=90)}
    assert retention.tables["a.b"].size_bytes == 1_000_000


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        ({"days": 0}, "days: 0 (whole number)"),
        ({"megabytes": "much"}, 'megabytes: "much" (text)'),
        ({"hours": 3}, "hours: unknown key; known here: days, megabytes, tables"),
        ({"tables": {EXCHANGE: {"days": -1}}}, f'tables."{EXCHANGE}".days: -1 (whole number)'),
        ({"tables": {EXCHANGE: 90}}, f'tables."{EXCHANGE}": 90 (whole number)'),
        (
            {"tables": {"exchange": {"days": 1}}},
            "tables.exchange: is not the name of a table; give it whole, as in ",
        ),
    ],
)
def test_each_mistake_is_named_with_its_key(given: object, mistake: str) -> None:
    """One clear line each."""
    with pytest.raises(SettingsRefused) as refused:
        retention_of(given)

    [line] = refused.value.mistakes
    assert line.startswith(f"outputs.lake.config.retention.{mistake}")
