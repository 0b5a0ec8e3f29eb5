"""`obfuscation_data`, `environment` and a service's own limits: what each record of a service meets."""

from __future__ import annotations

import json

import pytest
from masks_written import mask_of

from m365watch.common.model import Service
from m365watch.config.defaults import DETECTED_VALUES
from m365watch.config.models.settings import ServiceSettings
from m365watch.records.masking import Masker
from m365watch.records.split import split_blob
from settings_documents import Document, filled_in, mistakes_of, settings_of

SUBJECT = {"name": ["ExchangeMetaData", "Subject"], "value": "<removed>"}
CARD = {"name": ["Parameters", "*", "Value"], "value": "card", "string_patterns": [r"\b(?P<card>\d{16})\b"]}


def services_of(**changes: object) -> dict[Service, ServiceSettings]:
    (tenant,) = settings_of(filled_in(**changes)).tenants
    return {service.service: service for service in tenant.services}


def test_an_inputs_rules_and_a_services_rules_are_both_obeyed() -> None:
    """The input's hold for each of its services; placeholders and named groups are values like others."""
    services = services_of(
        obfuscation_data=[SUBJECT], services={"exchange": {"obfuscation_data": [CARD]}, "sharepoint": {}}
    )
    subject = mask_of(("ExchangeMetaData", "Subject"), "<removed>", ())

    assert services[Service.SHAREPOINT].masks == (subject,)
    assert services[Service.EXCHANGE].masks == (
        subject,
        mask_of(("Parameters", "*", "Value"), "card", (r"\b(?P<card>\d{16})\b",)),
    )


def test_what_a_dlp_rule_detected_is_masked_unless_that_is_switched_off() -> None:
    """The records of `dlp` may hold card numbers; those of other services do not."""
    off = {"dlp": {"obfuscate_detected_values": False, "obfuscation_data": [SUBJECT]}, "exchange": {}}

    assert services_of()[Service.DLP].masks == DETECTED_VALUES
    assert services_of(services={"dlp": None})[Service.DLP].masks == DETECTED_VALUES
    assert services_of()[Service.EXCHANGE].masks == ()
    assert [mask.value for mask in services_of(services=off)[Service.DLP].masks] == ["<removed>"]


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize(
    "detected", [[{"Name": "4111-1", "Value": "my card 4111-1"}], ["4111-1"], {"Value": 41111}, "4111-1"]
)
def test_detected_values_are_masked_wherever_the_schema_has_them(as_array: bool, detected: object) -> None:
    """Under a policy's rule and under what was found on a device, in whatever shape; the rest stays."""
    detections: object = {"DetectedValues": detected, "ResultsTruncated": False}
    information = [{"Count": 3, "SensitiveInformationDetections": [detections] if as_array else detections}]
    rule = {"RuleName": "few", "ConditionsMatched": {"SensitiveInformation": information}}
    record = {
        "Id": "1",
        "PolicyDetails": [{"PolicyName": "cards", "Rules": [rule]}],
        "EndpointMetaData": {"SensitiveInformation": information, "DeviceName": "desk"},
    }
    split = split_blob(json.dumps([record]).encode(), wide=False)
    masker = Masker(services_of()[Service.DLP].masks, spent_s=lambda: 0.0)
    (masked,) = masker.mask(split, wide=False).records

    assert b"4111" not in masked
    assert masked.count(b'"***"') in {2, 4}
    kept = json.loads(masked)
    assert kept.keys() == record.keys()
    assert kept["PolicyDetails"][0]["Rules"][0]["RuleName"] == "few"
    assert kept["EndpointMetaData"]["SensitiveInformation"][0]["Count"] == 3
    assert b'"ResultsTruncated": false' in masked


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        ({"name": []}, "[0].name: a list is empty; give a list of keys"),
        ({"name": "Subject"}, '[0].name: "Subject" (text) is of the wrong kind; give a list of keys from'),
        ({"name": ["x"] * 21}, "[0].name: a list has too many parts; give a list of keys from the record's"),
        ({"name": ["x"], "values": "y"}, '[0].values: unknown key; did you mean "value"?'),
        ({"name": ["x"], "value": 5}, "[0].value: 5 (whole number) is of the wrong kind; give a text"),
        ({"name": ["x"], "string_patterns": ["("]}, '[0].string_patterns[0]: "(" (text) is not a regular'),
        ({"name": ["x"], "string_patterns": ["a*"]}, '[0].string_patterns[0]: "a*" (text) matches the empty'),
        ({"name": ["x"], "string_patterns": ["*"]}, '[0].string_patterns[0]: "*" (text) is not a regular'),
        ({"name": ["x"], "string_patterns": ["a" * 501]}, "[0].string_patterns[0]: "),
    ],
)
def test_a_rule_that_would_mask_nothing_or_everything_is_refused(rule: Document, mistake: str) -> None:
    """Better at the start than after the first card number went out."""
    (line,) = mistakes_of(filled_in(services={"dlp": {"obfuscation_data": [rule]}}))

    assert line.startswith(f"inputs.office365.services.dlp.obfuscation_data{mistake}")


def test_an_inputs_environment_goes_with_its_tenants() -> None:
    """Devo's `@devo_environment`."""
    http = {"endpoint": "https://devo.example", "domain": "d", "token": "made-up"}
    outputs = {"devo": {"type": "devo_http", "config": http}}
    settings = settings_of(filled_in(environment="prod") | {"outputs": outputs})

    assert [tenant.environment for tenant in settings.tenants] == ["prod"]
    assert settings.warnings == ()


def test_a_services_own_limit_lies_inside_its_tenants() -> None:
    """The tightest of a service's limits, as whole requests a minute; the tenant's stays as it is."""
    limits = [{"period": "1m", "number_of_requests": 50}, {"period": "1h", "number_of_requests": 600}]
    services = {"exchange": {"requests_limits": limits}, "dlp": {"requests_per_second": 2}, "sharepoint": {}}
    settings = settings_of(filled_in(services=services))
    (tenant,) = settings.tenants

    assert {service.service: service.requests_per_minute for service in tenant.services} == {
        Service.EXCHANGE: 10,
        Service.DLP: 120,
        Service.SHAREPOINT: None,
    }
    assert tenant.requests_per_minute == 2_000
    assert settings.warnings == ()


@pytest.mark.parametrize("tag", ["my.app.{workload}", "cloud.{workload}.{operation}", "a.x-{workload}_y"])
def test_a_tag_may_name_the_records_workload_and_operation(tag: str) -> None:
    """One service then fills several tables of one's own."""
    assert services_of(services={"dlp": {"override_tag": tag}})[Service.DLP].override_tag == tag
