"""A tenant goes into the text of a configuration, and nothing else of the text changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import show_difference
from m365watch.config.editor.tenants import add_tenant

ONE = "0a1b2c3d-0000-4000-8000-00000000000a"
TWO = "0a1b2c3d-0000-4000-8000-00000000000b"
THREE = "0a1b2c3d-0000-4000-8000-00000000000c"
SECRET = "made-up.secret"


def test_a_placeholder_gives_its_place_and_its_quotation_marks() -> None:
    """What `init` left open is filled in; the comment beside it stays where it is."""
    text = "inputs:\n  a:\n    credentials:\n      tenant_id: '<tenant>'   # here\n      client_id: x\n"

    assert add_tenant(text, None, ONE) == text.replace("<tenant>", ONE)


@pytest.mark.parametrize(
    "empty", ["tenant_id:", "tenant_id: ", "tenant_id: ~", "tenant_id: null", 'tenant_id: ""']
)
def test_an_empty_key_is_filled_in(empty: str) -> None:
    """Nothing behind the colon is as good as a placeholder."""
    text = f"inputs:\n  a:\n    credentials:\n      {empty}   # here\n      client_id: x\n"

    changed = add_tenant(text, "a", ONE)

    assert tenants_of(changed) == ONE
    assert lines_beside(changed) == lines_beside(text)
    assert "   # here\n" in changed


def test_a_single_tenant_becomes_a_list_on_its_line() -> None:
    """Two insertions, and every byte between them as it was."""
    text = f"inputs:\n  a:\n    credentials:\n      tenant_id: {ONE} # mine\n      client_id: x\n"

    changed = add_tenant(text, "a", TWO)

    assert changed == text.replace(ONE, f"[{ONE}, {TWO}]")


def test_a_variable_beside_the_tenant_stays_a_variable() -> None:
    """Between brackets it needs quotation marks."""
    text = "inputs:\n  a:\n    credentials:\n      tenant_id: ${TENANT}   # theirs\n      client_id: x\n"

    changed = add_tenant(text, "a", ONE)

    assert changed == text.replace("${TENANT}", f'["${{TENANT}}", "{ONE}"]')


def test_a_list_of_lines_gets_a_line() -> None:
    """With the dash, the indentation and the quotation marks of the last one."""
    text = f'inputs:\n  a:\n    credentials:\n      tenant_id:\n      - "{ONE}"   # Contoso\n      # more\n'

    changed = add_tenant(text, "a", TWO)

    assert changed == text.replace("# Contoso\n", f'# Contoso\n      - "{TWO}"\n')


def test_a_list_in_brackets_over_lines_goes_on_as_it_began() -> None:
    """Comments stay beside the tenant that they are about."""
    text = (
        "inputs:\n  a:\n    credentials:\n      tenant_id: [\n"
        f"        '{ONE}',  # Contoso\n        '{TWO}'  # Fabrikam\n      ]\n      client_id: x\n"
    )

    changed = add_tenant(text, "a", THREE)

    assert changed == text.replace(f"'{TWO}'  # Fabrikam\n", f"'{TWO}',  # Fabrikam\n        '{THREE}'\n")


def test_a_line_does_not_grow_for_ever() -> None:
    """The third tenant of a list on one line begins a line of its own, below the first."""
    text = f'inputs: {{a: {{credentials: {{client_id: x, tenant_id: ["{ONE}"]}}}}}}\n'

    changed = add_tenant(add_tenant(text, "a", TWO), "a", THREE)

    assert tenants_of(changed) == [ONE, TWO, THREE]
    assert max(map(len, changed.splitlines())) <= 120


def test_json_keeps_its_indentation() -> None:
    """Tabs, a secret with escapes, and a list with an element a line."""
    document = {"inputs": {"a": {"credentials": {"client_secret": 'q"\\\u2028', "tenant_id": [ONE, TWO]}}}}
    text = json.dumps(document, indent="\t")

    changed = add_tenant(text, "a", THREE, suffix=".json")

    document["inputs"]["a"]["credentials"]["tenant_id"] = [ONE, TWO, THREE]
    assert changed == json.dumps(document, indent="\t")


def test_a_missing_key_is_put_first() -> None:
    """In both ways of writing an object."""
    block = "inputs:\n  a:\n    credentials:\n      client_id: x   # ours\n"
    flow = '{"inputs": {"a": {"credentials": {"client_id": "x"}}}}'

    assert add_tenant(block, "a", ONE) == block.replace("client_id", f'tenant_id: "{ONE}"\n      client_id')
    assert json.loads(add_tenant(flow, "a", ONE))["inputs"]["a"]["credentials"] == {
        "tenant_id": ONE,
        "client_id": "x",
    }


def test_a_tenant_is_there_once() -> None:
    """In either case of its letters."""
    text = f"inputs:\n  a:\n    credentials:\n      tenant_id: [{ONE.upper()}, {TWO}]\n"

    assert add_tenant(text, "a", ONE) == text


def test_windows_line_ends_stay_so() -> None:
    """A new line ends as the others do."""
    text = f"inputs:\r\n  a:\r\n    credentials:\r\n      tenant_id:\r\n        - {ONE}\r\n"

    assert add_tenant(text, "a", TWO) == f"{text}        - {TWO}\r\n"


def test_a_text_that_ends_without_a_line_end_is_added_to() -> None:
    """The last tenant may be the last of the file."""
    text = f"inputs:\n  a:\n    credentials:\n      tenant_id:\n        - {ONE}"

    assert add_tenant(text, "a", TWO) == f"{text}\n        - {TWO}"


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("outputs: {}\n", None, "has no input"),
        ("", None, "has no input"),
        (
            "inputs: {a: {credentials: {client_id: x}}, b: {}}\n",
            None,
            "has several inputs; name one of them: a, b",
        ),
        ("inputs: {a: {credentials: {client_id: x}}}\n", "b", 'has no input "b"; it has a'),
        ("inputs: {a: {}}\n", "a", "inputs.a.credentials: is missing"),
        ("inputs: {a: {credentials: {tenant_id: {x: y}}}}\n", "a", "is an object"),
        ("inputs:\n  a:\n    credentials:\n      tenant_id: >\n        x\n", "a", "goes over several lines"),
        ("inputs:\n  a: [\n", "a", "line 3"),
        ("inputs:\n  a: &x {credentials: {tenant_id: y}}\n  b: *x\n", "b", "aliases"),
    ],
)
def test_what_is_left_to_a_person_is_said(text: str, name: str | None, words: str) -> None:
    """No guess is made, and nothing is written."""
    with pytest.raises(Unreadable, match=words.replace("(", r"\(")) as raised:
        add_tenant(text, name, ONE)
    assert (raised.value.fix == "name one of them with --input") == (
        "has several" in words or 'input "b"' in words
    )


def test_the_difference_shows_no_secret() -> None:
    """Neither under its key nor, by its shape, anywhere else."""
    text = (
        f"inputs:\n  a:\n    credentials:\n      client_secret: {SECRET}\n      tenant_id: {ONE}\n"
        "      environment: aB38Q~0123456789abcdefghijklmnop\n"
    )

    shown = show_difference(text, add_tenant(text, "a", TWO), name="c.yaml")

    assert f"-      tenant_id: {ONE}\n+      tenant_id: [{ONE}, {TWO}]\n" in shown
    assert SECRET not in shown
    assert "Q~" not in shown
    assert show_difference(text, text, name="c.yaml") == ""


comments = st.sampled_from(["", "  # c", "   # 'quoted' [x", " # ümlaut {"])
quotes = st.sampled_from(["", "'", '"'])
indents = st.integers(1, 6)


@st.composite
def yaml_texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A configuration as people write it, and the tenants in it."""
    tenants = draw(st.lists(st.uuids(version=4).map(str), min_size=1, max_size=4, unique=True))
    step = draw(indents)
    pad = [" " * step * depth for depth in range(5)]
    mark = draw(quotes)
    written = [f"{mark}{tenant}{mark}" for tenant in tenants]
    style = draw(st.sampled_from(["line", "block", "lines"] + (["one"] if len(tenants) == 1 else [])))
    comment = draw(comments)
    if style == "one":
        lines = [f"{pad[3]}tenant_id: {written[0]}{comment}"]
    elif style == "line":
        lines = [f"{pad[3]}tenant_id: [{', '.join(written)}{draw(st.sampled_from(['', ',', ' ']))}]{comment}"]
    elif style == "block":
        shift = draw(st.sampled_from([pad[3], pad[4]]))
        lines = [f"{pad[3]}tenant_id:{comment}", *(f"{shift}- {one}{draw(comments)}" for one in written)]
    else:
        ends = [","] * (len(written) - 1) + [draw(st.sampled_from(["", ","]))]
        lines = [
            f"{pad[3]}tenant_id: [{comment}",
            *(f"{pad[4]}{one}{end}{draw(comments)}" for one, end in zip(written, ends, strict=True)),
            f"{pad[4]}]{draw(comments)}",
        ]
    others = [f"{pad[3]}client_id: x{draw(comments)}", f"{pad[3]}# {draw(st.sampled_from(['a', '- b']))}"]
    place = draw(st.integers(0, 2))
    body = [*others[:place], *lines, *others[place:]]
    head = ["# top", "inputs:", f"{pad[1]}a:{draw(comments)}", f"{pad[2]}credentials:"]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join([*head, *body, f"{pad[1]}b: {{x: [1, 2]}}", "outputs: {}"]) + end, tenants


@guarantee(31)
@pytest.mark.slow
@given(yaml_texts())
def test_nothing_but_the_tenant_is_new(made: tuple[str, list[str]]) -> None:
    """However it is written: take the new tenant and its punctuation out, and the old text is left."""
    text, tenants = made

    changed = add_tenant(text, "a", ONE)

    assert tenants_of(changed) == [*tenants, ONE]
    assert without_tenants(changed) == without_tenants(text)
    assert is_scattered(text, over=changed)
    assert changed.count("\r\n") - text.count("\r\n") in {0, changed.count("\n") - text.count("\n")}
    assert comments_by_tenant(changed) == comments_by_tenant(text)


@guarantee(31)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda children: (
            st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from([None, 1, 2, "\t"]),
)
def test_nothing_but_the_tenant_is_new_in_json(other: object, indent: int | str | None) -> None:
    """Whatever else is in the document, and however it is indented."""
    document: dict[str, Any] = {"x": other, "inputs": {"a": {"y": other, "credentials": {"tenant_id": TWO}}}}
    text = json.dumps(document, indent=indent)

    changed = add_tenant(text, "a", ONE, suffix=".json")

    assert changed == text.replace(f'"{TWO}"', f'["{TWO}", "{ONE}"]')


def tenants_of(text: str) -> Any:
    return yaml.safe_load(text)["inputs"]["a"]["credentials"]["tenant_id"]


def without_tenants(text: str) -> Any:
    document = yaml.safe_load(text)
    del document["inputs"]["a"]["credentials"]["tenant_id"]
    return document


def lines_beside(text: str) -> list[str]:
    return [line for line in text.splitlines() if "tenant_id" not in line]


def is_scattered(text: str, *, over: str) -> bool:
    """Whether every character of `text` is in `over`, in its order."""
    rest = iter(over)
    return all(character in rest for character in text)


def comments_by_tenant(text: str) -> dict[str, str]:
    """What is remarked beside each old tenant that has a line of its own."""
    lines = [line for line in text.splitlines() if line.count("-4") == 1 and "tenant_id" not in line]
    return {
        line.strip(" -,'\"").partition("#")[0].strip(" ,'\""): line.partition("#")[2]
        for line in lines
        if ONE not in line
    }
