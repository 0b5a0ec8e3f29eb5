"""A tenant goes out of the text of a configuration, and nothing else of the text changes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.config.document import Unreadable
from m365watch.config.editor.tenants import add_tenant, remove_tenant
from test_editing import ONE, THREE, TWO, comments_by_tenant, tenants_of, without_tenants, yaml_texts

HEAD = "inputs:\n  a:\n    credentials:\n      client_id: x\n"
OTHER = f"  b:   # theirs\n    credentials: {{client_id: y, tenant_id: {TWO}}}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"[{ONE}, {TWO}]   # both", f"[{TWO}]   # both"),
        (f"[{TWO}, {ONE}]", f"[{TWO}]"),
        (f"[{TWO}, '{ONE}', {THREE}]", f"[{TWO}, {THREE}]"),
        (f"[{TWO}, {ONE},]", f"[{TWO},]"),
        (f"[{TWO},\n        {ONE}, {THREE}]", f"[{TWO}, {THREE}]"),
        (f"\n      - {TWO}\n      - {ONE}   # them\n      # more", f"\n      - {TWO}\n      # more"),
        (f"\n        - {ONE}\n        # us\n        - {TWO}", f"\n        # us\n        - {TWO}"),
        (f"[\n        {ONE},  # x\n        {TWO}\n      ]", f"[\n        {TWO}\n      ]"),
        (f"[\n        {TWO},  # x, y\n        {ONE}  # z\n      ]", f"[\n        {TWO}  # x, y\n      ]"),
        (f"[{ONE},  # them\n        {TWO}]", f"[{TWO}]"),
        (f"[{ONE.upper()}, {TWO}]", f"[{TWO}]"),
    ],
)
def test_a_tenant_of_a_list_goes_with_its_comma_and_its_comment(before: str, after: str) -> None:
    """However the list is written; the others keep theirs."""
    text = f"{HEAD}      tenant_id: {before}\n{OTHER}"

    found = remove_tenant(text, None, ONE)

    assert found == (f"{HEAD}      tenant_id: {after}\n{OTHER}", ("a",), ())


@pytest.mark.parametrize("tenants", [ONE, f"[{ONE}]", f"\n      - {ONE}   # them", f'"{ONE}"'])
@pytest.mark.parametrize(
    "more",
    [
        "",
        "    services: {exchange: {}}   # enough\n    # no more\n",
        "    services:\n      exchange:\n        request_period_in_seconds: 60\n",
        "    note: |\n      several\n      lines\n",
    ],
)
def test_an_input_without_another_tenant_goes_as_a_whole(tenants: str, more: str) -> None:
    """With what is written in it; comments as far out as the next one's name stay with that."""
    text = f"{HEAD}      tenant_id: {tenants}\n{more}\n  # the others\n{OTHER}outputs: {{}}\n"

    found = remove_tenant(text, None, ONE)

    assert found == (f"inputs:\n\n  # the others\n{OTHER}outputs: {{}}\n", ("a",), ("a",))


def test_the_last_input_of_a_file_goes_up_to_its_end() -> None:
    """Also where the file has no line break there."""
    text = f"outputs: {{}}\ninputs:\n{OTHER}  a:\n    credentials:\n      tenant_id: {ONE}"

    assert remove_tenant(text, "a", ONE).text == f"outputs: {{}}\ninputs:\n{OTHER}"


def test_every_input_that_names_the_tenant_is_changed_unless_one_is_meant() -> None:
    """One tenant may have two inputs, for services of its own."""
    text = f"{HEAD}      tenant_id: [{ONE}, {TWO}]\n{OTHER.replace(TWO, ONE)}"

    every = remove_tenant(text, None, ONE)
    meant = remove_tenant(text, "b", ONE)

    assert every == (f"{HEAD}      tenant_id: [{TWO}]\n", ("a", "b"), ("b",))
    assert meant == (f"{HEAD}      tenant_id: [{ONE}, {TWO}]\n", ("b",), ("b",))


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("place", range(3))
def test_json_keeps_its_indentation(indent: int | str | None, place: int) -> None:
    """A tenant of a list, and an input as a whole, wherever they stand."""
    tenants = [TWO, THREE]
    document: dict[str, Any] = {"inputs": {"x": {"credentials": {"tenant_id": list(tenants)}}}, "y": [1]}
    wanted = json.dumps(document, indent=indent)
    document["inputs"]["x"]["credentials"]["tenant_id"].insert(place, ONE)
    listed = json.dumps(document, indent=indent)

    assert remove_tenant(listed, None, ONE, suffix=".json").text == wanted

    names = [("x", TWO), ("y", THREE)]
    wanted = json.dumps({"inputs": {name: input_of(tenant) for name, tenant in names}}, indent=indent)
    names.insert(place, ("z", ONE))
    apart = json.dumps({"inputs": {name: input_of(tenant) for name, tenant in names}}, indent=indent)

    assert remove_tenant(apart, None, ONE, suffix=".json").text == wanted


def input_of(tenant: str) -> dict[str, Any]:
    return {"type": "office365", "credentials": {"tenant_id": tenant, "client_secret": 'q"\\,]}#'}}


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("outputs: {}\n", None, "has no input, and so no tenant"),
        ("", None, "has no input"),
        (f"{HEAD}      tenant_id: {TWO}\n", None, f"names no tenant {ONE}; it names {TWO}"),
        (f"{HEAD}{OTHER}", "a", f"names no tenant {ONE}; it names none"),
        (f"{HEAD}      tenant_id: {ONE}\n", "c", 'has no input "c"; it has a'),
        (f"{HEAD}      tenant_id: {ONE}\n", None, f"has no tenant but {ONE}"),
        (f"{HEAD}      tenant_id: [{ONE}]\n", "a", "has no tenant but"),
        (f"{HEAD}      tenant_id: [{TWO}, # x\n        {ONE}]\n", None, "a comment stands within"),
        (f"{HEAD}      tenant_id: [{ONE}, # x\n        # y\n        {TWO}]\n", None, "edit it by hand"),
        ("inputs:\n  a: [\n", "a", "line 3"),
    ],
)
def test_what_is_left_to_a_person_is_said(text: str, name: str | None, words: str) -> None:
    """No guess is made, and nothing is written."""
    with pytest.raises(Unreadable, match=words.replace("(", r"\(")):
        remove_tenant(text, name, ONE)


def test_a_mistake_names_a_few_of_many_tenants() -> None:
    """So that it stays one line with 500 of them."""
    many = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(9)]

    with pytest.raises(Unreadable, match=r"it names 00000000-.*, 00000004-[-0-9]+ and 4 more"):
        remove_tenant(f"{HEAD}      tenant_id: [{', '.join(many)}]\n", None, ONE)


@guarantee(31)
@pytest.mark.slow
@given(yaml_texts(), st.integers(0, 3))
def test_what_was_added_can_be_taken_out_again(made: tuple[str, list[str]], place: int) -> None:
    """In any style: nothing but a tenant and its punctuation goes, or the text is left to a person."""
    text, tenants = made
    changed = add_tenant(text, "a", ONE)
    every = [*tenants, ONE]
    going = every[place % len(every)]

    found = None
    # Of comments between brackets, not all can be told whose they are.
    with suppress(Unreadable):
        found = remove_tenant(changed, "a", going)
    if found is None:
        assert "#" in changed.partition("tenant_id: [")[2].partition("]")[0]
        return

    assert tenants_of(found.text) == [one for one in every if one != going]
    assert without_tenants(found.text) == without_tenants(text)
    assert yaml.safe_load(found.text)["inputs"]["b"] == {"x": [1, 2]}
    kept = comments_by_tenant(changed)
    assert all(kept[name] == said for name, said in comments_by_tenant(found.text).items())
