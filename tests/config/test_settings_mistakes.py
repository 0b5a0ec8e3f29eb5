"""Every mistake of a document is named in one run, with its path, its kind, and what would be right."""

from __future__ import annotations

import pytest
from promises import guarantee

from m365watch.registry.output_specs import OUTPUTS
from settings_documents import (
    APPLICATION,
    OTHER_TENANT,
    SECRET,
    TENANT,
    Document,
    filled_in,
    mistakes_of,
    settings_of,
)

INPUT = "inputs.office365"


def second_input(**changes: object) -> Document:
    """A document with two inputs; `changes` go into the second, named `other`."""
    document = filled_in()
    other = {"type": "office365", "credentials": credentials(OTHER_TENANT)}
    document["inputs"]["other"] = other | changes
    return document


def credentials(tenant: object) -> Document:
    return {"tenant_id": tenant, "client_id": APPLICATION, "client_secret": SECRET}


def test_devos_template_as_it_comes_names_every_gap() -> None:
    """Six values to fill in are six mistakes, found in one run."""
    template = filled_in(
        id="12345",
        enabled=True,
        services={
            "azure_active_directory": {
                "start_time_in_utc": "2026-11-17T00:00:00.000Z",
                "override_tag": "...",
                "override_bloom_filter_size": "...",
                "override_bloom_filter_buffer_size": "...",
            }
        },
    )
    template["inputs"]["office365"]["credentials"] = dict.fromkeys(
        ("client_id", "tenant_id", "client_secret"), "..."
    )
    keys = [line.partition(":")[0].rpartition(".")[2] for line in mistakes_of(template)]

    assert keys == [
        "client_id",
        "client_secret",
        "tenant_id",
        "override_bloom_filter_buffer_size",
        "override_bloom_filter_size",
        "override_tag",
    ]
    assert all("is a placeholder; give " in line for line in mistakes_of(template))


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"id": "<id>"}, '.id: "<id>" (text) is a placeholder; give a short text that no other input has'),
        ({"id": ""}, '.id: "" (text) is empty; give a short text that no other input has'),
        ({"id": 1.5}, ".id: 1.5 (number) is of the wrong kind; give a short text that no other input has"),
        ({"enabled": "yes"}, '.enabled: "yes" (text) is neither true nor false; give true or false'),
        ({"enabled": 0}, ".enabled: 0 (whole number) is neither true nor false; give true or false"),
        ({"type": "o365"}, '.type: "o365" (text) is not supported by this version; give office365'),
        ({"credentials": 5}, ".credentials: *** (whole number) is of the wrong kind; give an object with"),
        ({"lookback_secs": True}, ".lookback_secs: true (true or false) is not a number; give a whole"),
        ({"lookback_secs": -1}, ".lookback_secs: -1 (whole number) is out of range; give a whole number"),
        ({"lookback_secs": 1.5}, ".lookback_secs: 1.5 (number) is not a whole number; give a whole number"),
        ({"lookback_secs": 10**5_000}, ".lookback_secs: a huge number (whole number) cannot stand in"),
        ({"lookback_secs": float("nan")}, ".lookback_secs: nan (number) cannot stand in a configuration"),
        ({"lookback_secs": {1}}, ".lookback_secs: a value (set) cannot stand in a configuration"),
        ({"lookbacksecs": 1}, '.lookbacksecs: unknown key; did you mean "lookback_secs"?'),
        ({"xyz": "<a>"}, ".xyz: unknown key; known here: type, id, enabled, credentials, cloud,"),
        ({"<x>": 1}, '."<x>": is a placeholder as a key; give a name of your own'),
        ({"a\tb": 1}, '."a\\tb": has a character that no key has; write the key anew'),
        ({5: 1}, ": 5 (whole number) is a key; give a text as the key"),
        ({"id": "a\u202eb\n"}, ".id: has a line break or another character that cannot be used; give"),
        ({"id": "x" * 5_000}, ".id: is longer than 4,096 characters; give a short text"),
        ({"publisher_identifier": "me"}, '.publisher_identifier: "me" (text) is not a GUID; give a GUID'),
        ({"obfuscation_data": [{}]}, ".obfuscation_data[0].name: is missing; give a list of keys from"),
        ({"services": ["dlp"]}, ".services: a list is of the wrong kind; give an object of services"),
        ({"services": {"general": {}}}, '.services.general: unknown key; did you mean "general_audit"?'),
        ({"services": {"dlp": True}}, ".services.dlp: true (true or false) is of the wrong kind; give an"),
        ({"services": {"dlp": {"enabled": False}}}, ".services: nothing is collected; switch on one of"),
        ({"services": {"uri_retry": None}}, ".services: nothing is collected; switch on one of azure_"),
        ({"requests_limits": [{"period": "1m"}]}, ".requests_limits[0].number_of_requests: is missing"),
        (
            {"requests_limits": [{"period": "0m", "number_of_requests": 1}]},
            '.requests_limits[0].period: "0m"',
        ),
        ({"requests_limits": {}}, ".requests_limits: an object is of the wrong kind; give a list of limits"),
        ({"requests_per_second": "0"}, '.requests_per_second: "0" (text) is out of range; give a number'),
        (
            {"cloud": "gcc_high"},
            '.cloud: "gcc_high" (text) is not supported by this version; give worldwide,',
        ),
        ({"cloud": {"login_url": "https://a"}}, ".cloud.management_url: is missing; give an https URL"),
    ],
)
def test_a_mistake_names_its_key_its_value_and_the_cure(changes: Document, mistake: str) -> None:
    """One mistake in the document is one line, at the path of its key."""
    document = filled_in()
    document["inputs"]["office365"].update(changes)
    (line,) = mistakes_of(document)

    assert line.startswith(INPUT + mistake)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("start_time_in_utc", "yesterday", '"yesterday" (text) is not an instant; give an instant such as'),
        ("start_time_in_utc", 1_700_000_000, "1700000000 (whole number) is not text; give an instant such"),
        ("start_time_in_utc", "1999-12-31", '"1999-12-31" (text) is not in the years 2000 to 2099; give'),
        ("start_time_in_utc", "0001-01-01T00:00:00+14:00", '"0001-01-01T00:00:00+14:00" (text) is not an'),
        ("request_period_in_seconds", "0", '"0" (text) is out of range; give a whole number of seconds'),
        ("request_period_in_seconds", "5m", '"5m" (text) is of the wrong kind; give a whole number of'),
        ("override_tag", "mine", '"mine" (text) is not a Devo tag; give a Devo tag of 2 to 6 levels'),
        ("override_tag", "a.b.c.d.e.f.g", '"a.b.c.d.e.f.g" (text) is not a Devo tag; give a Devo tag of'),
        ("override_tag", "a..b", '"a..b" (text) is not a Devo tag; give a Devo tag of 2 to 6 levels'),
        ("override_tag", "a.b c", '"a.b c" (text) is not a Devo tag; give a Devo tag of 2 to 6 levels'),
        ("override_tag", "a.<b>", '"a.<b>" (text) is a placeholder; give a Devo tag of 2 to 6 levels'),
        ("override_bloom_filter_size", "...", '"..." (text) is a placeholder; give a whole number, 1 to'),
        ("override_tag", "a.{work}", '"a.{work}" (text) has a brace that belongs neither to {workload} nor'),
        ("override_tag", "{workload}", '"{workload}" (text) is not a Devo tag; give a Devo tag of 2 to 6'),
        ("obfuscation_data", {"name": ["x"]}, "an object is of the wrong kind; give a list of rules with"),
        ("obfuscate_detected_values", True, "unknown key; known here: enabled, start_time_in_utc,"),
    ],
)
def test_a_services_mistake_names_what_would_be_right(key: str, value: object, why: str) -> None:
    """The services' options are checked one by one."""
    (line,) = mistakes_of(filled_in(services={"exchange": {key: value}}))

    assert line.startswith(f"{INPUT}.services.exchange.{key}: {why}")


@pytest.mark.parametrize(
    ("tenant", "why"),
    [
        ("contoso.onmicrosoft.com", '"contoso.onmicrosoft.com" (text) is a domain, and the API knows'),
        ("common", '"common" (text) is not a GUID; give the tenant\'s GUID, or a list of GUIDs'),
        (TENANT + "\n", "has a line break or another character that cannot be used; give the"),
        ([], "a list is empty; give the tenant's GUID, or a list of GUIDs"),
        ([TENANT, TENANT.upper()], "names a tenant twice; name each once"),
    ],
)
def test_a_tenant_is_a_guid(tenant: object, why: str) -> None:
    """The API's paths and the token's `tid` hold the GUID, whatever Entra's login page accepts."""
    (line,) = mistakes_of(filled_in(credentials=credentials(tenant)))

    assert line.startswith(f"{INPUT}.credentials.tenant_id: {why}")


def test_a_tenant_that_is_missing_may_come_by_consent() -> None:
    """That is how a configuration begins whose administrator sits elsewhere."""
    given = {key: value for key, value in credentials(TENANT).items() if key != "tenant_id"}
    (line,) = mistakes_of(filled_in(credentials=given))

    assert line.startswith(f"{INPUT}.credentials.tenant_id: is missing; give the tenant's GUID, or a list")
    assert line.endswith("or let `m365watch consent serve` find the tenant and write it here")


def test_one_bad_tenant_of_a_list_is_named_by_its_place() -> None:
    """Of three hundred tenants one has to be found."""
    (line,) = mistakes_of(filled_in(credentials=credentials([TENANT, "<tenant>", OTHER_TENANT])))

    assert line.startswith(f'{INPUT}.credentials.tenant_id[1]: "<tenant>" (text) is a placeholder; give')
    assert line.endswith("or let `m365watch consent serve` find the tenant and write it here")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://login.example.com", "would send the secret unencrypted; http is for loopback hosts only"),
        ("http://127.0.0.1.example.com", "would send the secret unencrypted; http is for loopback hosts"),
        ("http://localhost.example.com", "would send the secret unencrypted; http is for loopback hosts"),
        ("https://user@example.com", "has a user name, a query or a fragment"),
        ("https://example.com?x=1", "has a user name, a query or a fragment"),
        ("https://example.com/#x", "has a user name, a query or a fragment"),
        ("https://exa mple.com", "has a space or a character that no URL has"),
        ("https://ex\u00e4mple.com", "has a space or a character that no URL has"),
        ("https://<host>", "is a placeholder"),
        ("https://", "is not an https URL"),
        ("https://a:b", "is not an https URL"),
        ("https://[::1", "is not an https URL"),
        ("https://a\\b", "is not an https URL"),
        ("ftp://example.com", "is not an https URL"),
        ("login.example.com", "is not an https URL"),
    ],
)
def test_a_cloud_of_ones_own_has_urls_that_keep_the_secret_safe(url: str, why: str) -> None:
    """The client secret is sent there."""
    cloud = {"login_url": url, "management_url": "https://example.com"}
    (line,) = mistakes_of(filled_in(cloud=cloud))

    assert line.startswith(f"{INPUT}.cloud.login_url: ")
    assert why in line


def test_outputs_are_checked_by_their_type() -> None:
    """An option of one type is unknown to another."""
    document = filled_in() | {
        "outputs": {
            "a": {"type": "lake", "config": {"compression": "gzip"}},
            "b": {"type": "files", "config": {"directory": "~/x", "compression": "lz4", "rotate_secs": 0}},
            "c": {"type": "kafka"},
            "d": {"config": {}},
            "e": "lake",
            "f": {"type": ["lake"]},
            "g h": {"type": "console"},
        }
    }

    assert mistakes_of(document) == [
        'outputs."g h": is not a name; give 1 to 64 letters, digits, "_" and "-"',
        "outputs.a.config.compression: unknown key; known here: directory, retention",
        (
            'outputs.b.config.compression: "lz4" (text) is not supported by this version; '
            "give none, gzip or zstd, or remove the key"
        ),
        'outputs.b.config.directory: "~/x" (text) starts with ~, which is not expanded here; write ${HOME}',
        (
            "outputs.b.config.rotate_secs: 0 (whole number) is out of range; "
            "give a whole number of seconds, 1 to 2,678,400, or remove the key"
        ),
        f'outputs.c.type: "kafka" (text) is no output; give {OUTPUTS.types_wanted}',
        f"outputs.d.type: is missing; give {OUTPUTS.types_wanted}",
        'outputs.e: "lake" (text) is of the wrong kind; give an object with type and config',
        f"outputs.f.type: a list is no output; give {OUTPUTS.types_wanted}",
    ]


@pytest.mark.parametrize(
    ("one", "two"), [("x", "x"), ("x", "./x"), ("x", "x/y"), ("x/y", "x"), (".", "x"), ("/somewhere/x", "x")]
)
def test_two_outputs_do_not_share_a_folder(one: str, two: str) -> None:
    """Each tidies up its own folder at start and would tidy the other away."""
    document = filled_in() | {
        "globals": {"persistence": {"config": {"directory_name": "/elsewhere"}}},
        "outputs": {
            "a": {"type": "lake", "config": {"directory": one}},
            "b": {"type": "files", "config": {"directory": two}},
        },
    }

    assert mistakes_of(document) == [
        (
            "outputs.b.config.directory: is in the folder of outputs.a.config.directory, or around it; "
            "give a folder apart"
        )
    ]


@pytest.mark.parametrize("directory", ["lake", "./lake", "lake/state"])
def test_the_state_does_not_lie_in_the_lake_that_nobody_named(directory: str) -> None:
    """Without outputs there is one as well."""
    document = filled_in() | {"globals": {"persistence": {"config": {"directory_name": directory}}}}

    assert mistakes_of(document) == [
        (
            "globals.persistence.config.directory_name: lies in the lake that is written without outputs; "
            "give a folder apart"
        )
    ]


@pytest.mark.parametrize("directory", ["state", ".", "state/.."])
def test_an_outputs_folder_does_not_hold_the_state(directory: str) -> None:
    """The ledger must not be where an output deletes what it does not know."""
    document = filled_in() | {"outputs": {"a": {"type": "files", "config": {"directory": directory}}}}

    assert mistakes_of(document) == [
        "outputs.a.config.directory: holds the collector's state as well; give a folder apart"
    ]


def test_an_input_of_another_name_says_its_type() -> None:
    """Only `office365` says by its name what it collects."""
    assert mistakes_of(second_input(type=None)) == ["inputs.other.type: is missing; give office365"]


def test_a_service_of_a_tenant_is_collected_once() -> None:
    """Two inputs that collect the same would deliver every record twice."""
    services = {"exchange": {}, "dlp": {"enabled": False}}
    document = second_input(credentials=credentials(TENANT.upper()), services=services)

    assert mistakes_of(document) == [
        (
            f"inputs.other.services.exchange: inputs.office365 collects this of tenant {TENANT} already; "
            "switch it off in one of the two"
        )
    ]


def test_two_inputs_may_share_a_tenant_but_not_its_services() -> None:
    """One application for mail and another for the rest is a usual split of permissions."""
    document = second_input(credentials=credentials(TENANT), services={"exchange": {}})
    document["inputs"]["office365"]["services"] = {"dlp": {}}

    assert [t.input_name for t in settings_of(document).tenants] == ["office365", "other"]


def test_two_inputs_do_not_share_an_id() -> None:
    """The id tells them apart in what the collector reports; the name stands in for one left out."""
    assert mistakes_of(second_input(id="office365")) == [
        "inputs.other.id: is the same as that of inputs.office365; give each input its own"
    ]


def test_redis_is_answered_with_one_mistake() -> None:
    """Devo's collector server keeps state there; its options are not counted as mistakes of their own."""
    redis = {"type": "redis", "config": {"host": "x", "port": 6379, "password": "y", "db": 0}}

    assert mistakes_of(filled_in() | {"globals": {"persistence": redis}}) == [
        (
            'globals.persistence.type: "redis" (text) is not supported; give filesystem, which keeps the '
            "state on disk (PostgreSQL will be the store that several workers share, in a later version)"
        )
    ]


def test_a_state_store_that_is_not_there_is_refused() -> None:
    """State that is silently kept elsewhere would be looked for in vain."""
    assert mistakes_of(filled_in() | {"globals": {"persistence": {"type": "mysql"}}}) == [
        (
            'globals.persistence.type: "mysql" (text) is not supported by this version; '
            "give filesystem or memory, or remove the key"
        )
    ]


@pytest.mark.parametrize(
    ("document", "mistakes"),
    [
        ({}, ["inputs: is missing; give an object of inputs, each under a name of its own"]),
        ({"inputs": {}}, ["inputs: no input is switched on; give one with its credentials"]),
        ({"inputs": []}, ["inputs: a list is of the wrong kind; give an object of inputs, each under"]),
        ({"inputs": {"office365": None}}, ["inputs.office365: nothing (null) is of the wrong kind; give"]),
        ({"input": {}}, ['input: unknown key; did you mean "inputs"?']),
        (None, ["holds nothing (null); give an object with inputs"]),
    ],
)
def test_a_document_without_inputs_is_refused(document: object, mistakes: list[str]) -> None:
    """A collector with nothing to collect would look healthy for ever."""
    found = mistakes_of(document)

    assert [line[: len(start)] for line, start in zip(found, mistakes, strict=True)] == mistakes


def test_what_is_switched_off_is_not_read() -> None:
    """A tenant that left, with its secret gone, does not keep the others from being collected."""
    gone = {"type": "office365", "enabled": "false", "credentials": {"tenant_id": "<x>", "oops": "${GONE}"}}
    services = {"exchange": {}, "dlp": {"enabled": False, "override_tag": "..."}}
    document = filled_in(services=services)
    document["inputs"]["gone"] = gone
    settings = settings_of(document)

    assert [t.input_name for t in settings.tenants] == ["office365"]
    assert [s.service.value for s in settings.tenants[0].services] == ["exchange"]
    assert settings.warnings == ("inputs.gone: is switched off and was not read",)


def test_a_collector_with_every_input_switched_off_is_refused() -> None:
    """Switched on or off by a variable as well."""
    document = filled_in(enabled="${ON}")

    assert len(settings_of(document, environment={"ON": "true"}).tenants) == 1
    assert mistakes_of(document, environment={"ON": "false"}) == [
        "inputs: no input is switched on; give one with its credentials"
    ]


def test_a_document_without_end_is_refused() -> None:
    """A document built in memory may hold itself."""
    document = filled_in()
    document["inputs"]["office365"]["services"] = document

    assert "holds too much, or is nested too deeply, to be a configuration" in mistakes_of(document)


def test_a_document_that_unfolds_to_millions_is_refused_quickly() -> None:
    """Shared parts count each time they are met."""
    wide: object = "x"
    for _ in range(10):
        wide = [wide] * 10

    assert "holds too much, or is nested too deeply, to be a configuration" in mistakes_of(filled_in(id=wide))


def test_a_list_whose_part_is_wrong_is_not_empty_too() -> None:
    """One mistake is told once, at its place; a list with nothing in it is told as well."""
    document = filled_in()
    entra = {"tenant_id": TENANT, "client_id": APPLICATION, "client_secret": SECRET}
    document["board"] = {"address": "https://board.contoso.example", "entra": entra}

    document["board"]["entra"]["grants"] = [{"claim": "Board.Admin", "role": "boss"}]
    [wrong] = mistakes_of(document)
    document["board"]["entra"]["grants"] = []
    [empty] = mistakes_of(document)

    assert wrong.startswith('board.entra.grants[0].role: "boss"')
    assert empty.startswith("board.entra.grants: a list is empty")


@guarantee(26)
@pytest.mark.parametrize("address", ["https://127.9[]/x", "https://[x/", "https://a.\u2100/", "https://a:b/"])
def test_an_address_of_the_board_that_is_none_is_a_mistake(address: str) -> None:
    """Told as one, at its place."""
    document = filled_in()
    document["board"] = {"address": address}

    [wrong] = mistakes_of(document)

    assert wrong.startswith("board.address: ")
