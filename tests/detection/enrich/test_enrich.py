"""Tables and lists of the user's own: what they say, when they change, and what it is to be without them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from tables_made import ANONYMOUS, ASN, CITY, make_table
from verdicts import packs

from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.enrichment import EnrichSection
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.enrichment.context_loader import make_knowledge, troubles_of
from m365watch.detection.enrichment.entity_facts import tell_of, what_is_known
from m365watch.detection.enrichment.geoip import REMEMBERED_MAX, Addresses, open_table, whereabouts_of
from m365watch.detection.enrichment.missing_sources import all_lacks, lacks_of, rules_without
from m365watch.detection.enrichment.watched_file import LOOKS_EVERY_S
from m365watch.detection.enrichment.watchlists import LINES_MAX, Lists, parse_listed
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge, Whereabouts
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.extension import Severity


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 27, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, ...]:
    """A table of towns, one of networks, one of anonymisers."""
    return (
        make_table(tmp_path / "city.mmdb", CITY, kind="GeoLite2-City"),
        make_table(tmp_path / "asn.mmdb", ASN, kind="GeoLite2-ASN"),
        make_table(tmp_path / "anonymous.mmdb", ANONYMOUS, kind="GeoIP2-Anonymous-IP"),
    )


def knowledge_with(clock: HandClock, **enrich: Any) -> Knowledge:
    """What rules know with these files."""
    settings = DetectionsSection(
        accepted_domains=frozenset({"contoso.example"}), enrich=EnrichSection(**enrich)
    )
    return make_knowledge(settings, clock=clock)


def write(path: Path, text: str, *, at_s: int = 0) -> Path:
    """The file with that text, changed at a time of its own."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (1_700_000_000 + at_s, 1_700_000_000 + at_s))
    return path


def view_of(knowledge: Knowledge, **fields: Any) -> View:
    return View(fields, knowledge=knowledge)


def test_tables_and_lists_say_where_somebody_came_from(tables: tuple[Path, ...], clock: HandClock) -> None:
    """Each derived field has the word of the table that knows it, whatever shape the address comes in."""
    seen = view_of(knowledge_with(clock, databases=tables), ClientIP="[::ffff:203.0.113.66]:443")

    assert {
        name: seen.values(f"m365.{name}")
        for name in ("country", "city", "asn", "asn_name", "place", "tor", "vpn", "hosting")
    } == {
        "country": ("BR",),
        "city": ("Porto Velho",),
        "asn": ("64500",),
        "asn_name": ("Example Hosting",),
        "place": ("-8.7600,-63.9000",),
        "tor": (True,),
        "vpn": (False,),
        "hosting": (False,),
    }


def test_an_address_that_no_table_has_is_nowhere(tables: tuple[Path, ...], clock: HandClock) -> None:
    """What is not known is empty or false; version 6 is looked up as well."""
    knowledge = knowledge_with(clock, databases=tables)
    nowhere = view_of(knowledge, ClientIP="198.51.100.1")

    assert nowhere.values("m365.country") == ()
    assert nowhere.values("m365.tor") == (False,)
    assert view_of(knowledge, ClientIP="2001:db8:1::5").values("m365.country") == ("FR",)
    assert view_of(knowledge).values("m365.country") == ()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            {
                "country_code": "de",
                "asn": "AS64501",
                "as_name": "Example Net",
                "latitude": "53.1",
                "longitude": "8.8",
            },
            Whereabouts("DE", "64501", 53.1, 8.8, network_name="Example Net"),
        ),
        (
            {"city": "Bremen", "country": "DE", "lat": "53.1", "lng": "8.8"},
            Whereabouts("DE", "", 53.1, 8.8, city="Bremen"),
        ),
        ({"traits": {"is_hosting_provider": True}}, Whereabouts(hosting=True)),
        ({"vpn": "true", "hosting": 1, "tor": False}, Whereabouts(vpn=True, hosting=True)),
        ({"registered_country": {"iso_code": "FR"}}, Whereabouts("FR")),
        ({"location": {"latitude": 9_999, "longitude": "x"}, "country": 5, "asn": "ASx"}, Whereabouts()),
    ],
)
def test_tables_of_several_makers_are_understood(found: dict[str, Any], told: Whereabouts) -> None:
    """The same facts under other names; what makes no sense is left out."""
    assert whereabouts_of(found) == told


def test_a_list_has_addresses_networks_and_names() -> None:
    """Comments, columns behind a comma, brackets against clicking and quotation marks are no matter."""
    listed = parse_listed(
        "# exits\n203.0.113.7 # one\n198.51.100.0/24, a network\n2001:db8::/32\n::ffff:192.0.2.0/120\n"
        '"Evil.Example"\nrogue[.]example;an indicator\nE3B0C442\nann_b.example#EXT#@contoso.example\n'
        "ExitAddress 203.0.113.99 2026-11-27 10:00:00\n\n"
    )

    for text in (
        "203.0.113.7",
        "198.51.100.200",
        "2001:db8:ffff::1",
        "192.0.2.77",
        "evil.example",
        "mail.evil.example",
        "rogue.example",
        "e3b0c442",
        "ann_b.example#ext#@contoso.example",
        "203.0.113.99",
    ):
        assert listed.has(text), text
    for text in ("203.0.113.8", "198.51.101.1", "notevil.example", "example", "exits", "", "192.0.3.1"):
        assert not listed.has(text), text


def test_a_list_is_bounded() -> None:
    """Lines without end are refused, a line without end is told; neither costs more than its length."""
    with pytest.raises(ValueError, match="more than 3,000,000 lines"):
        parse_listed("\n" * (LINES_MAX + 1))

    assert parse_listed("a" * 10_000).mistakes == ("line 1 is longer than 512 characters",)


def test_a_list_that_changes_is_read_again(tmp_path: Path, clock: HandClock) -> None:
    """Within ten seconds of somebody asking; and not at every question."""
    path = write(tmp_path / "tor.txt", "203.0.113.7\n")
    tor = Lists([path], clock=clock)

    assert "203.0.113.7" in tor
    write(path, "203.0.113.8\n", at_s=5)
    assert "203.0.113.8" not in tor
    clock.at_s += LOOKS_EVERY_S
    assert "203.0.113.8" in tor
    assert "203.0.113.7" not in tor


@guarantee(36)
def test_a_change_reaches_addresses_that_were_asked_before(
    tables: tuple[Path, ...], tmp_path: Path, clock: HandClock
) -> None:
    """What is remembered of an address is forgotten when a table or list is another."""
    path = write(tmp_path / "tor.txt", "198.51.100.1\n")
    enrichment = knowledge_with(clock, databases=tables[:1], tor_lists=(path,)).enrichment

    assert enrichment.locate("203.0.113.7") == Whereabouts("BR", "", -8.76, -63.9, city="Porto Velho")
    write(path, "203.0.113.0/24\n", at_s=5)
    make_table(tables[0], {"203.0.113.0/24": {"country": {"iso_code": "AR"}}}, kind="GeoLite2-City")
    clock.at_s += LOOKS_EVERY_S
    assert enrichment.locate("203.0.113.7") == Whereabouts("AR", tor=True)


@guarantee(36)
def test_a_file_that_is_gone_or_broken_leaves_what_was(tmp_path: Path, clock: HandClock) -> None:
    """The trouble is told with the file's name; rules go on with the version before."""
    path = write(tmp_path / "tor.txt", "203.0.113.7\n")
    table = make_table(tmp_path / "city.mmdb", CITY, kind="GeoLite2-City")
    knowledge = knowledge_with(clock, databases=(table,), tor_lists=(path,))
    assert knowledge.enrichment.locate("203.0.113.7").tor
    path.unlink()
    write(table, "no table at all")
    clock.at_s += LOOKS_EVERY_S

    found = knowledge.enrichment.locate("203.0.113.7")
    assert (found.country, found.tor) == ("BR", True)
    broken, gone = troubles_of(knowledge)
    assert broken.startswith(f"{table}: is no table of addresses in MaxMind's format: ")
    assert gone == f"{path}: there is no such file"
    assert knowledge.files_read() == knowledge.files_unread() == {table, path}


@guarantee(36)
def test_a_table_that_is_cut_short_while_it_is_open_ends_nothing(tmp_path: Path, clock: HandClock) -> None:
    """A new table is copied over the old one: look-ups in between find nothing, and the process lives."""
    path = make_table(tmp_path / "city.mmdb", CITY, kind="GeoLite2-City")
    table = open_table(path)
    os.truncate(path, 100)

    assert table.find("203.0.113.7") == Whereabouts()


def test_answers_are_remembered_up_to_a_bound(tables: tuple[Path, ...], clock: HandClock) -> None:
    """The same address costs one look-up; many addresses cost no more memory than the bound."""
    enrichment = knowledge_with(clock, databases=tables[1:2]).enrichment
    assert isinstance(enrichment, Addresses)
    first = enrichment.locate("203.0.113.1")

    assert enrichment.locate("203.0.113.1") is first
    enrichment._remembered.update({f"x{number}": Whereabouts() for number in range(REMEMBERED_MAX)})
    enrichment.locate("203.0.113.2")
    assert len(enrichment._remembered) == 1


@guarantee(36)
def test_nothing_is_read_before_a_rule_asks(tmp_path: Path, clock: HandClock) -> None:
    """A list costs nothing until a record needs it."""
    path = write(tmp_path / "tor.txt", "203.0.113.7\n")
    knowledge = knowledge_with(clock, tor_lists=(path,))
    enrichment = knowledge.enrichment
    assert isinstance(enrichment, Addresses)
    view_of(knowledge, ClientIP="203.0.113.7").values("m365.ip")

    assert enrichment.lists["tor"].files[0].version == 0
    assert view_of(knowledge, ClientIP="203.0.113.7").values("m365.tor") == (True,)
    assert enrichment.lists["tor"].files[0].version == 1


def test_people_and_indicators_come_from_files_and_settings(tmp_path: Path, clock: HandClock) -> None:
    """Names in any case; a list of indicators has domains, addresses and hashes alike."""
    vips = write(tmp_path / "vips.txt", "Boss@Contoso.example\n")
    bad = write(tmp_path / "bad.txt", "203.0.113.0/28\nrogue.example\n")
    knowledge = knowledge_with(
        clock, vip_lists=(vips,), admins=("Root@contoso.example",), indicator_lists=(bad,)
    )
    seen = view_of(
        knowledge,
        UserId="boss@contoso.EXAMPLE",
        ClientIP="203.0.113.9:80",
        Url="https://login.rogue.example/x",
    )

    assert (seen.values("m365.vip"), seen.values("m365.admin")) == ((True,), (False,))
    assert seen.values("m365.indicator") == ("203.0.113.9", "login.rogue.example")
    assert view_of(knowledge, UserId="root@contoso.example").values("m365.admin") == (True,)
    assert not knowledge.is_plain
    assert knowledge_with(clock).is_plain


@guarantee(36)
def test_a_rule_says_what_it_lacks(tables: tuple[Path, ...], tmp_path: Path, clock: HandClock) -> None:
    """Without a file the rules that want it are named; with it they are not."""
    library = packs()
    [travel, *_] = [rule for rule in library.rules if rule.name == "i05_impossible_travel"]
    tor = write(tmp_path / "tor.txt", "")
    without = rules_without(library.rules, all_lacks(library.rules, NOTHING_KNOWN))
    known = knowledge_with(clock, databases=tables[:1], tor_lists=(tor,))

    assert lacks_of(travel, NOTHING_KNOWN) == ("databases",)
    assert lacks_of(travel, known) == ()
    assert {"databases", "tor_lists", "vpn_lists", "hosting_lists", "indicator_lists"} <= without.keys()
    assert "S01" in without["tor_lists"]
    assert "tor_lists" not in rules_without(library.rules, all_lacks(library.rules, known))


def test_what_is_known_of_a_value_is_told_with_its_file(
    tables: tuple[Path, ...], tmp_path: Path, clock: HandClock
) -> None:
    """Of an address and of a user, each fact under the name that rules have for it."""
    bad = write(tmp_path / "bad.txt", "203.0.113.7\nrogue.example\n")
    knowledge = knowledge_with(
        clock, databases=tables[:2], indicator_lists=(bad,), admins=("root@contoso.example",)
    )
    address = tell_of("203.0.113.7:443", knowledge)
    person = tell_of("Root@Contoso.example", knowledge)

    assert [(one.field, one.value, Path(one.source).name) for one in address.facts] == [
        ("m365.country", "BR", "city.mmdb"),
        ("m365.city", "Porto Velho", "city.mmdb"),
        ("m365.place", "-8.7600,-63.9000", "city.mmdb"),
        ("m365.asn", "64500", "asn.mmdb"),
        ("m365.asn_name", "Example Hosting", "asn.mmdb"),
        ("m365.indicator", "yes", "bad.txt"),
    ]
    assert [(one.field, one.source) for one in person.facts] == [
        ("m365.admin", "the settings"),
        ("accepted_domains", "the settings"),
    ]
    assert [one.field for one in tell_of("thief@mail.rogue.example", knowledge).facts] == ["m365.indicator"]
    assert tell_of("198.51.100.1", knowledge).facts == ()


def test_a_trouble_is_told_once(tmp_path: Path, clock: HandClock) -> None:
    """A run says it when it finds it out, and not at every look; when it comes again it is news."""
    path = write(tmp_path / "tor.txt", "203.0.113.7\n")
    told: list[str] = []
    settings = DetectionsSection(enrich=EnrichSection(tor_lists=(path,)))
    enrichment = make_knowledge(settings, clock=clock, tell=told.append).enrichment
    for there in (True, False, False, True, False):
        if there:
            write(path, "203.0.113.7\n")
        else:
            path.unlink(missing_ok=True)
        clock.at_s += LOOKS_EVERY_S
        assert enrichment.locate("203.0.113.7").tor

    assert told == [f"{path}: there is no such file"] * 2


def test_an_alert_is_read_with_what_is_known_of_it(tables: tuple[Path, ...], clock: HandClock) -> None:
    """Its address with country, town, network and kind; its user with what they are."""
    knowledge = knowledge_with(clock, databases=tables, vips=("boss@contoso.example",))
    entities = (("user", "boss@contoso.example"), ("address", "203.0.113.66"), ("app", "unheard-of"))
    alert = Alert(
        id=AlertId("0" * 32),
        rule_id="r",
        title="t",
        severity=Severity.HIGH,
        tenant="",
        group=(),
        entities=entities,
        first_at_ms=0,
        last_at_ms=0,
        count=1,
        evidence=(),
        explanation="",
    )

    assert what_is_known(alert, knowledge) == {
        "boss@contoso.example": "important person",
        "203.0.113.66": "BR, Porto Velho, AS64500 Example Hosting, exit of Tor",
    }


def test_a_list_remembers_answers_up_to_a_bound(tmp_path: Path, clock: HandClock) -> None:
    """Texts of records without end cost no memory without end, and a long one is looked up each time."""
    bad = Lists([write(tmp_path / "bad.txt", "rogue.example\n")], clock=clock)
    bad._remembered.update({f"x{number}": False for number in range(REMEMBERED_MAX)})

    assert "mail.rogue.example" in bad
    assert "a" * 10_000 not in bad
    assert bad._remembered == {"mail.rogue.example": True}


@pytest.mark.parametrize(
    ("written", "instead"), [(b"ip_version", b"ip\x1fversion"), (b"build_epoch", b"build_epoc\x1b")]
)
def test_a_table_whose_description_is_garbled_is_one_line(
    tmp_path: Path, written: bytes, instead: bytes
) -> None:
    """Found by the fuzzer: the reader quotes what it met, control characters and all."""
    path = make_table(tmp_path / "city.mmdb", CITY, kind="GeoLite2-City")
    path.write_bytes(path.read_bytes().replace(written, instead))

    with pytest.raises(ValueError, match="is no table of addresses") as caught:
        open_table(path)
    assert str(caught.value).isprintable()


def test_an_empty_table_is_told_in_words(tmp_path: Path) -> None:
    """A download that broke off before it began; the system's own number says nothing to anybody."""
    path = write(tmp_path / "city.mmdb", "")

    with pytest.raises(ValueError, match=r"^is empty$"):
        open_table(path)
