"""Which outputs an input's tenants have: named, checked, and the same in all inputs of a tenant."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from promises import guarantee

from settings_documents import OTHER_TENANT, Document, filled_in, mistakes_of, settings_of

NO_OUTPUT = "is no output that is switched on"
TWO_OUTPUTS = {"lake": {"type": "lake"}, "siem": {"type": "syslog", "config": {"address": "a.b", "port": 6}}}


def with_outputs(outputs: object, **others: Document) -> Document:
    document = filled_in(outputs=outputs)
    document["inputs"] |= others
    return document | {"outputs": TWO_OUTPUTS}


def another(outputs: object, *, tenant: str | None = None) -> Document:
    """An input that collects another service, of the same tenant unless one is given."""
    section: Document = deepcopy(filled_in()["inputs"]["office365"]) | {"type": "office365"}
    if tenant is not None:
        section["credentials"]["tenant_id"] = tenant
    return section | {"outputs": outputs, "services": {"dlp": {}}}


@pytest.mark.parametrize("given", ["siem", ["siem"], ["siem", "siem"]])
def test_outputs_are_named_for_an_input(given: object) -> None:
    """One or several; every other output is excluded."""
    settings = settings_of(with_outputs(given))
    [tenant] = settings.tenants

    assert tenant.outputs == ("siem",)
    assert settings.excluded_outputs == {tenant.tenant_id: frozenset({"lake"})}


def test_without_the_key_all_outputs_get_everything() -> None:
    """As it always was."""
    settings = settings_of(filled_in() | {"outputs": TWO_OUTPUTS})

    assert settings.tenants[0].outputs == ()
    assert settings.excluded_outputs == {}


def test_the_lake_that_is_there_without_outputs_has_a_name_too() -> None:
    """It may be named."""
    assert settings_of(filled_in(outputs=["lake"])).tenants[0].outputs == ("lake",)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            ["lake", "sime"],
            f'inputs.office365.outputs[1]: "sime" (text) {NO_OUTPUT}; did you mean "siem"?',
        ),
        (
            "kafka",
            f'inputs.office365.outputs: "kafka" (text) {NO_OUTPUT}; there are lake, siem',
        ),
    ],
)
def test_an_output_that_is_not_there_is_a_mistake(given: object, line: str) -> None:
    """With the nearest one, or all there are."""
    assert mistakes_of(with_outputs(given)) == [line]


def test_an_output_that_is_switched_off_is_not_there() -> None:
    """Or the tenant's records would go nowhere without a word."""
    document = with_outputs(["siem"])
    document["outputs"] = deepcopy(TWO_OUTPUTS)
    document["outputs"]["siem"]["enabled"] = False

    [line] = mistakes_of(document)

    assert line.startswith('inputs.office365.outputs[0]: "siem" (text) is no output that is switched on')


@guarantee(32)
def test_inputs_that_share_a_tenant_name_the_same_outputs() -> None:
    """What is a duplicate is told over all records of a tenant."""
    services: Document = {"services": {"exchange": {}}}
    differing = with_outputs(["siem"], other=another(["lake"]))
    alike = with_outputs(["siem", "lake"], other=another([]))
    strangers = with_outputs(["siem"], other=another(["lake"], tenant=OTHER_TENANT))
    for document in (differing, alike, strangers):
        document["inputs"]["office365"] |= services

    [line] = mistakes_of(differing)
    assert line.startswith("inputs.other.outputs: differs from that of inputs.office365, which has tenant ")
    assert line.endswith(" as well; name the same outputs in both")
    assert len(settings_of(alike, path=Path("/x/m365.json")).tenants) == 2
    assert len(settings_of(strangers).tenants) == 2


def test_tenants_that_share_the_outputs_of_others_unasked_are_told() -> None:
    """One customer's records in another one's place would be seen by nobody here."""
    document = with_outputs(["siem"])
    document["inputs"] |= {"other": another(None, tenant=OTHER_TENANT)}
    del document["inputs"]["other"]["outputs"]
    named = with_outputs(["siem"], other=another(["lake", "siem"], tenant=OTHER_TENANT))

    [warning] = settings_of(document).warnings
    assert warning == (
        "inputs.other.outputs: is left out, so that the records of its tenants go to every output, those of "
        "inputs.office365 included; name its outputs as well"
    )
    assert settings_of(named).warnings == ()
    document["inputs"]["other"]["enabled"] = False
    assert [line for line in settings_of(document).warnings if "left out" in line] == []


@pytest.mark.parametrize(("given", "warns"), [(None, True), (True, False), (False, False)])
def test_a_customer_s_output_that_hears_of_all_tenants_is_told(given: bool | None, warns: bool) -> None:
    """Notices name tenants and what is wrong with them; whether that is meant, somebody has to say."""
    document = with_outputs(["lake", "siem"], other=another(["lake"], tenant=OTHER_TENANT))
    config = {"address": "a.b", "port": 6, "format": "devo"}
    said = {} if given is None else {"collectors_out": given}
    document["outputs"] = TWO_OUTPUTS | {"siem": {"type": "syslog", "config": config | said}}

    warnings = [line for line in settings_of(document).warnings if "collectors_out" in line]

    told = (
        "outputs.siem.config.collectors_out: is left out, so that what the collector says of every tenant "
        "goes there, those of inputs.other included; set false, or true if that is meant"
    )
    assert warnings == ([told] if warns else [])
