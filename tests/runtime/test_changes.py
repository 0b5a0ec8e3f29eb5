"""What a running collector takes up of a changed configuration, at once or by being built anew."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.common.model import Service
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.runtime.config_changes import Change, plan_change

ONE, TWO, THREE = (f"{number}1111111-1111-4111-8111-111111111111" for number in (1, 2, 3))
Document = dict[str, Any]
SYSLOG = {"type": "syslog", "config": {"address": "siem.example.com", "port": 601}}


def settings_of(document: Document) -> Settings:
    return parse_settings(document, path=Path("/etc/m365watch/m365.json"), environment={})


def document_of(*tenants: str, **inputs: Document) -> Document:
    credentials = {"tenant_id": list(tenants), "client_id": THREE, "client_secret": "secret-of-ours"}
    office365 = {"credentials": credentials, "services": {"exchange": {}, "sharepoint": {}}}
    return {
        "inputs": {"office365": office365, **inputs},
        "outputs": {"lake": {"type": "lake"}, "siem": SYSLOG},
    }


def change(edit: Any, *, tenants: tuple[str, ...] = (ONE, TWO)) -> Change:
    """What comes of it when `edit` changes the document in place."""
    document = document_of(*tenants)
    new = deepcopy(document)
    edit(new)
    return plan_change(settings_of(document), settings_of(new))


def input_of(document: Document) -> Document:
    found = document["inputs"]["office365"]
    assert isinstance(found, dict)
    return found


def test_tenants_are_added_changed_and_removed() -> None:
    """Each by its name; those that are not named keep what they have."""

    def edit(document: Document) -> None:
        input_of(document)["credentials"]["tenant_id"] = [TWO, THREE]

    def renew(document: Document) -> None:
        input_of(document)["credentials"]["client_secret"] = "another secret"

    moved, renewed = change(edit), change(renew)

    assert (moved.added, moved.changed, moved.removed) == ((THREE,), (), (ONE,))
    assert [tenant.tenant_id for tenant in moved.settings.tenants] == [TWO, THREE]
    assert (renewed.added, renewed.changed, renewed.removed) == ((), (ONE, TWO), ())
    assert moved.text == f"tenants: added {THREE}; removed {ONE}"
    assert moved.needs_restart == ()


def test_a_service_that_is_switched_on_or_off_changes_its_tenant() -> None:
    """It is neither a new tenant nor a removed one."""

    def edit(document: Document) -> None:
        input_of(document)["services"] = {"exchange": {}, "dlp": {}}

    changed = change(edit, tenants=(ONE,))

    assert (changed.added, changed.changed, changed.removed) == ((), (ONE,), ())
    [tenant] = changed.settings.tenants
    assert [one.service for one in tenant.services] == [Service.EXCHANGE, Service.DLP]


def test_what_stays_as_it_was_changes_nothing() -> None:
    """Also where the file was written anew in another order."""

    def edit(document: Document) -> None:
        input_of(document)["services"] = {"sharepoint": {}, "exchange": {}}

    unchanged = change(edit)

    assert unchanged.text == ""
    assert unchanged.needs_restart == ()


@guarantee(31)
def test_a_key_that_changes_how_syslog_lines_are_written_changes_the_output() -> None:
    """Its value is the default; with it the receiver is taken for Devo's relay."""

    def edit(document: Document) -> None:
        document["outputs"]["siem"]["config"]["concurrent_connections"] = 1

    assert change(edit).renews == ("outputs.siem is changed",)


@guarantee(31)
@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("globals", "name"), "another", "globals.name is another one"),
        (("globals", "debug"), True, "globals.debug is another one"),
        (("globals", "queue_max_size_in_mb"), 7, "globals.queue_max_size_in_mb is another one"),
        (("globals", "sender_stats_period_in_sec"), 60, "globals.sender_stats_period_in_sec is another one"),
        (("globals", "watch_configuration"), False, "globals.watch_configuration is another one"),
        (("outputs", "files"), {"type": "files"}, "outputs.files is new"),
        (("outputs", "lake"), {"type": "lake", "enabled": False}, "outputs.lake is gone"),
        (
            ("outputs", "lake"),
            {"type": "lake", "config": {"retention": {"days": 7}}},
            "outputs.lake is changed",
        ),
    ],
)
def test_what_a_collector_has_from_its_beginning_builds_it_anew_and_is_named(
    path: tuple[str, str], value: object, told: str
) -> None:
    """The next one begins with all that the file says, a tenant that comes with it included."""

    def edit(document: Document) -> None:
        document.setdefault(path[0], {})[path[1]] = value
        input_of(document)["credentials"]["tenant_id"] = [ONE, TWO, THREE]

    changed = change(edit)

    # What a sender leaves to `globals` is its own as well.
    assert told in changed.renews
    assert set(changed.renews) <= {
        told,
        "outputs.siem is changed",
        # With the lake goes what is on by default beside one.
        "detections.enabled is another one",
    }
    assert (changed.added, changed.needs_restart) == ((THREE,), ())
    new = document_of(ONE, TWO)
    edit(new)
    assert changed.settings == settings_of(new)


@guarantee(31)
def test_another_ledger_needs_a_restart_and_is_named() -> None:
    """The run keeps its own, also where it is built anew; a tenant beside it is taken up all the same."""

    def move(document: Document) -> None:
        document["globals"] = {"persistence": {"config": {"directory_name": "elsewhere"}}}
        input_of(document)["credentials"]["tenant_id"] = [ONE, TWO, THREE]

    def move_and_add(document: Document) -> None:
        move(document)
        document["outputs"]["files"] = {"type": "files"}

    old = settings_of(document_of(ONE, TWO))
    for moved, renews in ((change(move), ()), (change(move_and_add), ("outputs.files is new",))):
        assert moved.needs_restart == ("globals.persistence is another one; needs a restart",)
        assert (moved.added, moved.renews) == ((THREE,), renews)
        assert moved.settings.state_directory == old.state_directory


@guarantee(31)
def test_a_tag_that_no_running_output_knows_builds_the_collector_anew() -> None:
    """Or its records would go under the fallback's tag."""

    def retag(document: Document) -> None:
        input_of(document)["services"]["exchange"] = {"override_tag": "my.app.exchange.new"}

    def add(document: Document) -> None:
        other = deepcopy(input_of(document))
        other["credentials"]["tenant_id"] = THREE
        other["services"] = {"exchange": {"override_tag": "my.app.exchange.new"}}
        document["inputs"]["other"] = other | {"type": "office365"}

    retagged, added = change(retag), change(add)

    assert retagged.renews == ("inputs.office365.override_tag is new to the output siem",)
    assert (retagged.changed, added.added) == ((ONE, TWO), (THREE,))
    assert added.renews == ("inputs.other.override_tag is new to the output siem",)


def test_a_tenant_with_an_output_that_is_new_begins_with_that() -> None:
    """One with outputs that run is taken up at once."""

    def name_new(document: Document) -> None:
        document["outputs"]["files"] = {"type": "files"}
        input_of(document)["outputs"] = ["files"]

    def name_running(document: Document) -> None:
        input_of(document)["outputs"] = ["siem"]

    renewed, taken_up = change(name_new, tenants=(ONE,)), change(name_running, tenants=(ONE,))

    assert renewed.renews == ("outputs.files is new",)
    assert (renewed.changed, taken_up.changed, taken_up.renews) == ((ONE,), (ONE,), ())


def test_sizes_of_the_filter_build_the_collector_anew() -> None:
    """The ledger has one, which is made when it is opened."""

    def edit(document: Document) -> None:
        input_of(document)["services"]["exchange"] = {"override_bloom_filter_size": 1_000_000}

    [line] = change(edit).renews

    assert line == "inputs.office365.services.exchange.override_bloom_filter_size is another one"


def test_many_tenants_are_named_in_a_line_that_ends() -> None:
    """500 ids are no line for a person."""
    tenants = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(500)]

    def edit(document: Document) -> None:
        input_of(document)["credentials"]["tenant_id"] = [ONE, *tenants]

    assert change(edit, tenants=(ONE,)).text.endswith("and 495 more")


def test_what_the_detections_go_by_is_taken_up() -> None:
    """Each key by its name, with or without tenants beside it; a target's secret is no part of the line."""

    def edit(document: Document) -> None:
        document["detections"] = {
            "accepted_domains": "contoso.example",
            "risk_points": 70,
            "enrich": {"vips": ["ceo@contoso.example"]},
            "notifications": {
                "soc": {"type": "slack", "webhook_url": "https://hooks.slack.com/services/secret"}
            },
        }

    def edit_both(document: Document) -> None:
        edit(document)
        input_of(document)["credentials"]["tenant_id"] = [ONE, TWO, THREE]

    changed, with_tenant = change(edit), change(edit_both)

    keys = "risk_points, accepted_domains, enrich, notifications"
    assert (changed.text, changed.needs_restart) == (f"detections: {keys}", ())
    assert [target.name for target in changed.settings.detections.channels] == ["soc"]
    assert with_tenant.text == f"tenants: added {THREE}; detections: {keys}"


@guarantee(31)
def test_detections_that_are_switched_off_build_the_collector_anew() -> None:
    """With all that the section says; in words that is one thing."""

    def edit(document: Document) -> None:
        document["detections"] = {"enabled": False, "risk_points": 70}

    changed = change(edit)

    assert changed.renews == ("detections.enabled is another one",)
    assert changed.text == "detections.enabled is another one"
    assert (changed.settings.detections.enabled, changed.settings.detections.risk_points) == (False, 70)
