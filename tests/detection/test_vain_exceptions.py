"""Exceptions that except nothing: a slip would go unnoticed, and somebody would be told time and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from m365watch.detection.alerts.alert_exceptions import Exceptions, list_unknown
from m365watch.detection.alerts.exceptions_file import read_exceptions
from m365watch.detection.rules.rule_library import Library, load_packs
from rules import TENANT, load_good, rule_text


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """One rule, B08."""
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    return load_good(tmp_path, rule_text(detection, name="delegation", m365watch={"detection": "B08"}))


def read(directory: Path, text: str) -> Exceptions:
    """The exceptions of a file without mistakes."""
    path = directory / "exceptions.yml"
    path.write_text(text)
    exceptions, mistakes = read_exceptions(path)
    assert mistakes == []
    return exceptions


def test_an_exception_of_what_is_no_network_is_told(tmp_path: Path) -> None:
    """It would except nothing, without a word."""
    named = dict.fromkeys(("address", "ip", "site"), "ClientIP")
    rule = rule_text({"s": {"Operation": "One"}, "condition": "s"}, m365watch={"entity": named})
    exceptions = read(
        tmp_path,
        "[{rule: '*', entity: {address: 10.0.0.0/33}, reason: x}, {rule: '*', entity: {ip: 10/8}, reason: x},"
        " {rule: '*', entity: {site: https://contoso.example/x}, reason: x}]",
    )

    place = f"{tmp_path / 'exceptions.yml'}:1: "
    assert list_unknown(exceptions, load_good(tmp_path, rule).rules, tenants={TENANT}) == [
        f"{place}10.0.0.0/33 is no network, such as 192.0.2.0/24: the exception excepts nothing",
        f"{place}10/8 is no network, such as 192.0.2.0/24: the exception excepts nothing",
    ]


def test_an_exception_of_no_tenant_is_told(tmp_path: Path, library: Library) -> None:
    """Its id is written whole, in any case."""
    exceptions = read(
        tmp_path,
        f"[{{rule: B08, reason: x, tenant: {TENANT.upper()}}}, {{rule: B08, reason: y, tenant: contoso}}]",
    )

    [line] = list_unknown(exceptions, library.rules, tenants={TENANT})
    assert line.endswith(
        "exceptions.yml:1: there is no tenant contoso in the configuration; write its whole id:"
        " the exception excepts nothing"
    )


def test_an_exception_of_no_rule_is_told(tmp_path: Path, library: Library) -> None:
    """The rule was renamed, or its name mistyped."""
    exceptions = read(tmp_path, "[{rule: B99, reason: x}, {rule: B08, reason: y}]")

    assert list_unknown(exceptions, library.rules, tenants={TENANT}) == [
        f"{tmp_path / 'exceptions.yml'}:1: there is no rule B99: the exception excepts nothing"
    ]


def test_an_entity_that_a_rule_never_names_is_told(tmp_path: Path, library: Library) -> None:
    """A slip of the pen would except nothing, and nobody would know; a right kind is passed over."""
    exceptions = read(
        tmp_path,
        "exceptions: [{rule: B08, entity: {usr: ann}, reason: r}, "
        "{rule: B08, entity: {user: ann}, reason: r}, {rule: '*', entity: {user: x}, reason: r}]",
    )

    assert list_unknown(exceptions, library.rules, tenants={TENANT}) == [
        f"{tmp_path / 'exceptions.yml'}:1: B08 has no entity usr, only user: the exception excepts nothing"
    ]


@pytest.mark.parametrize("name", ["*", "C01", "RISK"])
def test_an_entity_that_no_rule_names_is_told_of_what_joins_them(tmp_path: Path, name: str) -> None:
    """Of all rules, of one that joins others, and of risk: what none of them has none of their alerts has."""
    exceptions = read(
        tmp_path,
        f"[{{rule: '{name}', entity: {{ip: 10.0.0.0/8}}, reason: r}},"
        f" {{rule: '{name}', entity: {{mailbox: x}}, reason: r}}]",
    )
    library = load_packs()

    [line] = list_unknown(exceptions, library.with_risk(50).rules, tenants={TENANT})
    assert f": {name} has no entity ip, only actor, address, " in line
