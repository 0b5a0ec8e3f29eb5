from __future__ import annotations

import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from m365watch.common.model import ContentType
from m365watch_simulator.organization.guids import ticks_of
from m365watch_simulator.organization.network import PLACES
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.records import SimulatedRecord
from places import place_of

TENANT = "5d1f2c3b-7a10-4f6e-9c55-0b8e3a9d4f21"
MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PER_DAY = 1_500
COMBED = {1, 2, 4, 6, 14, 36, 40, 52, 56}
MIXED = 3


@pytest.fixture(scope="module")
def organisation() -> Organisation:
    return Organisation(7, TENANT, records_per_day=PER_DAY)


@pytest.fixture(scope="module")
def week(organisation: Organisation) -> list[SimulatedRecord]:
    return organisation.records_between(MONDAY, MONDAY + 7 * DAY)


@pytest.fixture(scope="module")
def bodies(week: list[SimulatedRecord]) -> list[dict[str, Any]]:
    return [json.loads(record.body) for record in week]


def test_records_are_sorted_and_lie_in_the_span_asked_for(organisation: Organisation) -> None:
    """A span is half-open, also where it begins and ends inside an hour."""
    start, end = MONDAY + timedelta(hours=9, minutes=20), MONDAY + timedelta(hours=11, minutes=5)
    moments = [record.happened_at for record in organisation.records_between(start, end)]

    assert moments == sorted(moments)
    assert start <= moments[0]
    assert moments[-1] < end


@pytest.mark.parametrize("step", [HOUR, 5 * HOUR, timedelta(minutes=37)])
def test_slices_give_the_same_union_however_they_are_cut(organisation: Organisation, step: timedelta) -> None:
    """Whoever asks hour by hour gets what whoever asks for the day gets."""
    start, end = MONDAY, MONDAY + DAY
    sliced: list[SimulatedRecord] = []
    at = start
    while at < end:
        sliced += organisation.records_between(at, min(at + step, end))
        at += step

    assert sliced == organisation.records_between(start, end)


def test_one_seed_is_one_history(week: list[SimulatedRecord]) -> None:
    """A second organisation of the same seed and tenant has the same records."""
    again = Organisation(7, TENANT, records_per_day=PER_DAY)

    assert week == again.records_between(MONDAY, MONDAY + 7 * DAY)


@pytest.mark.parametrize(("seed", "tenant_id"), [(8, TENANT), (7, TENANT.replace("5", "6"))])
def test_another_seed_or_tenant_is_another_history(
    week: list[SimulatedRecord], seed: int, tenant_id: str
) -> None:
    """No Id of one organisation is an Id of another."""
    other = Organisation(seed, tenant_id, records_per_day=PER_DAY)
    others = {json.loads(record.body)["Id"] for record in other.records_between(MONDAY, MONDAY + DAY)}

    assert not others & {json.loads(record.body)["Id"] for record in week}


def test_threads_that_ask_at_once_get_the_same_answers(organisation: Organisation) -> None:
    """What is kept between calls never changes an answer."""
    hours = [MONDAY + number * 7 * HOUR for number in range(24)]
    alone = [organisation.records_between(hour, hour + HOUR) for hour in hours]
    fresh = Organisation(7, TENANT, records_per_day=PER_DAY)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda hour: fresh.records_between(hour, hour + HOUR), hours))

    assert alone == together


def test_a_week_holds_the_records_that_were_ordered(
    organisation: Organisation, week: list[SimulatedRecord]
) -> None:
    """`records_per_day` is the mean of a week; only attacks come on top."""
    attacked = {
        record_id
        for attack in organisation.attacks(MONDAY - 2 * DAY, MONDAY + 9 * DAY)
        for record_id in attack.record_ids
    }
    ordinary = [record for record in week if json.loads(record.body)["Id"] not in attacked]

    assert len(ordinary) == 7 * PER_DAY


def test_nights_and_weekends_are_quiet_but_not_silent(week: list[SimulatedRecord]) -> None:
    """People keep working hours; the service and the machines work on."""
    per_day = Counter(record.happened_at.weekday() for record in week)
    per_hour = Counter(record.happened_at.hour for record in week if record.happened_at.weekday() == 1)

    assert 0 < per_day[6] < per_day[2] / 2
    assert 0 < per_hour[1] < per_hour[9] / 2


def test_creation_time_is_the_moment_in_whole_seconds_without_zone(
    week: list[SimulatedRecord], bodies: list[dict[str, Any]]
) -> None:
    """The zone is missing on the wire, and it is UTC."""
    expected = [record.happened_at.strftime("%Y-%m-%dT%H:%M:%S") for record in week]

    assert expected == [body["CreationTime"] for body in bodies]


def test_the_common_fields_come_first_and_in_the_wires_order(bodies: list[dict[str, Any]]) -> None:
    """Every record begins with the block that all workloads share."""
    order = (
        *("CreationTime", "Id", "Operation", "OrganizationId", "RecordType", "ResultStatus", "UserKey"),
        *("UserType", "Version", "Workload", "ClientIP", "ObjectId", "UserId"),
    )
    for body in bodies:
        keys = list(body)
        first = keys[: keys.index("UserId") + 1]
        assert first == [key for key in order if key in first]
        assert not set(keys[len(first) :]) & {"Id", "ResultStatus", "ClientIP", "ObjectId", "Version"}


def test_every_id_is_there_once(bodies: list[dict[str, Any]]) -> None:
    """The organisation never repeats an Id; only the service delivers twice."""
    assert len(bodies) == len({body["Id"] for body in bodies})


def test_ids_of_exchange_and_sharepoint_carry_their_instant(
    week: list[SimulatedRecord], bodies: list[dict[str, Any]]
) -> None:
    """Groups 5 and 4 of a COMB are the ticks of the moment, within the second of CreationTime."""
    for record, body in zip(week, bodies, strict=True):
        if body["RecordType"] in COMBED:
            late = ticks_in(body["Id"]) - ticks_of(record.happened_at.replace(microsecond=0))
            assert 0 <= late < 10_000_000


def test_ids_of_the_others_are_random(bodies: list[dict[str, Any]]) -> None:
    """All Ids are GUIDs in lower case, and where they carry no instant, of version 4."""
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
    random_ones = [body["Id"] for body in bodies if body["RecordType"] not in {*COMBED, MIXED}]

    assert all(pattern.fullmatch(body["Id"]) for body in bodies)
    assert {record_id[19] for record_id in random_ones} == set("89ab")


def ticks_in(guid: str) -> int:
    """The ticks that a COMB carries: its fifth group, then its fourth."""
    groups = guid.split("-")
    return int(groups[4] + groups[3], 16)


def test_the_comb_of_the_contract_is_read_as_the_contract_says() -> None:
    """The published example: ticks 0x08d91a41cb3bedbf are 2021-05-18 21:13:33.453459."""
    instant = datetime(2021, 5, 18, 21, 13, 33, 453459, tzinfo=UTC)

    assert ticks_in("f12c6c27-8688-4074-edbf-08d91a41cb3b") // 10 == ticks_of(instant) // 10


def test_every_content_type_gets_records(week: list[SimulatedRecord]) -> None:
    """None of the five feeds stays empty in a week."""
    assert {record.content_type for record in week} == set(ContentType)


def test_records_are_as_long_as_published_ones(week: list[SimulatedRecord]) -> None:
    """Median 1,286 bytes, nine of ten below 1,676, 99 of 100 below 3,193, were measured."""
    sizes = sorted(len(record.body) for record in week)

    assert 1_000 <= sizes[len(sizes) // 2] <= 1_600
    assert 1_400 <= sizes[len(sizes) * 9 // 10] <= 2_000
    assert 2_000 <= sizes[len(sizes) * 99 // 100] <= 4_000


def test_a_record_is_compact_json_on_one_line(week: list[SimulatedRecord]) -> None:
    """No space between tokens, no line break anywhere."""
    for record in week:
        assert b"\n" not in record.body
        assert len(record.body) <= len(json.dumps(json.loads(record.body), separators=(",", ":")))


def test_names_beyond_ascii_come_escaped_and_unescaped(week: list[SimulatedRecord]) -> None:
    """Some senders escape, others send UTF-8; a collector has to stand both."""
    assert any(not record.body.isascii() for record in week)
    assert any(rb"\u00" in record.body for record in week)


def test_addresses_come_in_every_spelling_seen_on_the_wire(bodies: list[dict[str, Any]]) -> None:
    """Plain, with a port, in brackets, both, IPv6, and IPv4 written as IPv6."""
    v4 = r"\d+\.\d+\.\d+\.\d+"
    spellings = (v4, rf"{v4}:\d+", rf"\[{v4}\]:\d+", r"2001:[0-9a-f:]+", r"\[2001:[0-9a-f:]+\]")
    more = (r"\[2001:[0-9a-f:]+\]:\d+", rf"::ffff:{v4}", "")
    seen = {body.get("ClientIP") or body.get("ClientIPAddress", "") for body in bodies}

    for spelling in (*spellings, *more):
        assert any(re.fullmatch(spelling, address) for address in seen), spelling


def test_no_address_belongs_to_anybody(bodies: list[dict[str, Any]]) -> None:
    """All are of the documentation ranges, each of which has a place."""
    fields = ("ClientIP", "ClientIPAddress", "ActorIpAddress", "SenderIp", "UserIp")
    seen = {str(body[field]) for body in bodies for field in fields if body.get(field)}
    seen |= {address for body in bodies for address in body.get("ClientIPs", [])}

    assert all(place_of(_plain(address)) for address in seen)


def _plain(spelled: str) -> str:
    """The address without its port, its brackets and its disguise as IPv6."""
    address = spelled.partition("]")[0].removeprefix("[").removeprefix("::ffff:")
    return address.partition(":")[0] if "." in address else address


def test_every_place_has_addresses_of_its_own() -> None:
    """The country of an address is known, in both versions of the protocol."""
    for place in PLACES:
        assert place_of(place.address(29)) is place
        assert place_of(place.address_v6(9_999)) is place
    assert place_of("10.0.0.1") is None


def test_no_domain_belongs_to_anybody(organisation: Organisation) -> None:
    """The organisation's own domain ends in .example, which is reserved."""
    assert organisation.domain.endswith(".example")
    assert all(person.upn.endswith(f"@{organisation.domain}") for person in organisation.people)


def test_sign_ins_fail_for_many_reasons_and_lie_about_it(bodies: list[dict[str, Any]]) -> None:
    """ErrorNumber and LogonError tell why; ResultStatus mostly says Success."""
    failed = [body for body in bodies if body["Operation"] == "UserLoginFailed"]
    statuses = Counter(body["ResultStatus"] for body in failed)

    assert len({body["ErrorNumber"] for body in failed}) > 4
    assert all(body["LogonError"] for body in failed)
    assert statuses["Success"] > statuses["Failed"] > 0


def test_most_cmdlets_of_exchange_are_the_services_own(bodies: list[dict[str, Any]]) -> None:
    """The system account as UserType 3, its switches as strings."""
    cmdlets = [body for body in bodies if body["RecordType"] == 1]
    own = [body for body in cmdlets if body["UserType"] == 3]

    assert len(own) > 0.8 * len(cmdlets)
    assert all(body["UserId"].startswith("NT AUTHORITY\\SYSTEM") for body in own)
    assert all(isinstance(pair["Value"], str) for body in cmdlets for pair in body["Parameters"])


def test_too_few_users_are_refused() -> None:
    """An attack needs people to play its roles."""
    with pytest.raises(ValueError, match="at least 12 users"):
        Organisation(1, TENANT, users=11)


@pytest.mark.slow
def test_a_core_makes_ten_thousand_records_a_second() -> None:
    """A week of history must not be what a demo waits for; an idle core makes 75,000."""
    busy = Organisation(1, TENANT, records_per_day=100_000)
    best = 0.0
    for day in range(3):
        start = MONDAY + day * DAY + 9 * HOUR
        began = time.process_time()
        made = len(busy.records_between(start, start + HOUR))
        best = max(best, made / (time.process_time() - began))

    assert best >= 10_000
