"""What operators write, and what somebody else wrote in their place: configuration, exceptions, lists, tables, users."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from fuzz_contract import Attempt, Target, allowed, check_line
from fuzz_values import TEXTS, changed
from m365watch.board.access.api_tokens import ApiTokens
from m365watch.board.access.local_users import Users
from m365watch.config.loader import example_settings, load_settings
from m365watch.detection.alerts.alert_exceptions import Part
from m365watch.detection.alerts.exceptions_file import read_exceptions
from m365watch.detection.enrichment.geoip import open_table
from m365watch.detection.enrichment.watchlists import parse_listed

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
APPLICATION = "99999999-8888-4777-8666-555555555555"
_ENVIRONMENT = {"M365_SECRET": "made~up.secret-value", "X": "y"}
_ADDRESSES = ("203.0.113.66", "192.0.2.1", "2001:db8:1::9", "::ffff:192.0.2.1", "fe80::1")


def full_document() -> dict[str, object]:
    """A configuration that has something in every section."""
    return {
        "globals": {
            "name": "collector", "debug": True, "queue_max_size_in_mb": 64, "allow_readable_secrets": True,
            "persistence": {"type": "filesystem", "config": {"directory_name": "state"}},
            "network": {"proxy": "http://proxy.example:3128", "connect_timeout_in_seconds": 10},
            "webhook": {"address": "https://hook.example/m365", "listen": "127.0.0.1:8443", "auth_id": "0123456789abcdef0123", "behind_proxy": True},
        },
        "inputs": {
            "office365": {
                "credentials": {"tenant_id": [TENANT], "client_id": APPLICATION, "client_secret": "${M365_SECRET}"},
                "cloud": "worldwide",
                "requests_limits": [{"period": "1m", "number_of_requests": 100}],
                "services": {
                    "azure_active_directory": {"override_tag": "my.app.{workload}", "start_time_in_utc": "2026-11-17T00:00:00Z"},
                    "exchange": {"obfuscation_data": [{"name": ["Parameters", "*", "Value"], "value": "?", "string_patterns": ["(a+)+$"]}]},
                    "dlp": {"request_period_in_seconds": 300},
                },
            }
        },
        "outputs": {
            "lake": {"type": "lake", "config": {"directory": "lake", "retention": {"days": 30}}},
            "devo": {"type": "devo_http", "config": {"endpoint": "https://http-eu.devo.io", "domain": "d", "token": "${X}"}},
            "siem": {"type": "syslog", "config": {"address": "127.0.0.1", "port": 514, "format": "rfc5424"}},
            "disk": {"type": "files", "config": {"directory": "out", "compression": "gzip"}},
        },
        "detections": {
            "rules_directories": ["rules"], "exceptions_file": "exceptions.yml", "accepted_domains": ["contoso.example"],
            "notifications": {"soc": {"type": "webhook", "webhook_url": "https://hook.example/x", "signing_secret": "${X}"}},
            "enrich": {"databases": ["a.mmdb"], "vips": ["ann@contoso.example"]},
        },
        "board": {"listen": "127.0.0.1:8365", "session_hours": 8, "address": "https://board.example"},
    }  # fmt: skip


@cache
def known_keys() -> tuple[str, ...]:
    """Every key that the page of settings names, at whatever place."""
    page = (Path(__file__).parents[2] / "docs/reference/settings.md").read_text(encoding="utf-8")
    return tuple(sorted(set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))))


def configurations() -> list[bytes]:
    full = full_document()
    small = {"inputs": full["inputs"]}
    texts = [example_settings(), yaml.safe_dump(full, sort_keys=False), yaml.safe_dump(small)]
    return [b"Y" + text.encode() for text in texts] + [
        b"J" + json.dumps(one).encode() for one in (full, small)
    ]


_ADDRESSES_AT = (
    ("board", "address"),
    ("globals", "webhook", "address"),
    ("globals", "network", "proxy"),
    ("outputs", "devo", "config", "endpoint"),
    ("detections", "notifications", "soc", "webhook_url"),
)
"""Where the full document has an address."""


def grow_configuration(random: Random) -> bytes:
    document = full_document()
    if random.random() < 0.3:
        # All else stays right, so that nothing else is refused before the address is looked at.
        *above, key = random.choice(_ADDRESSES_AT)
        section: Any = document
        for one in above:
            section = section[one]
        section[key] = random.choice(TEXTS)
    made = document if random.random() < 0.1 else changed(random, document, known_keys())
    if random.random() < 0.3:
        return b"Y" + yaml.safe_dump(made, allow_unicode=random.random() < 0.5).encode("utf-8", "replace")
    return b"J" + json.dumps(made).encode()


def _prepare_configuration(folder: Path) -> Attempt:
    for name in ("rules", "state"):
        (folder / name).mkdir()

    def attempt(given: bytes) -> None:
        path = folder / ("m365watch.json" if given[:1] == b"J" else "m365watch.yaml")
        path.write_bytes(given[1:])
        for for_reading in (True, False):
            with allowed():
                load_settings(path, environment=_ENVIRONMENT, for_reading=for_reading)

    return attempt


_EXCEPTIONS = [
    b"exceptions:\n- rule: B08\n  entity: {user: backup@contoso.example}\n  until: 2026-12-31\n  reason: known\n",
    b"- {rule: '*', reason: x, tenant: t}\n- rule: a\n  reason: b\n",
    b"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nexceptions: *c\n",
]


def laughing(random: Random, key: bytes) -> bytes:
    """Aliases of aliases: a few lines of them unfold to gigabytes."""
    levels = random.randrange(2, 12)
    lines = [b"a0: &a0 [" + b",".join([b"lol"] * 9) + b"]"]
    for level in range(1, levels):
        form = random.choice((b"a%d: &a%d [%b]", b"a%d: &a%d {k: [%b]}"))
        lines.append(form % (level, level, b",".join([b"*a%d" % (level - 1)] * 9)))
    last = b"*a%d" % (levels - 1)
    forms = (b"%b: %b\n", b"%b: [%b]\n", b"%b: {%b: a}\n", b"%b:\n- rule: %b\n  reason: x\n")
    return b"\n".join(lines) + b"\n" + random.choice(forms) % (key, last)


_EXCEPTION_KEYS = ("exceptions", "rule", "reason", "entity", "tenant", "until", "user", "address", "<<")


def grow_exceptions(random: Random) -> bytes:
    """Aliases of aliases now and then; exceptions in which some values are others."""
    if random.random() < 0.3:
        return laughing(random, b"exceptions")
    good = {"exceptions": [
        {"rule": "B08", "reason": "known", "entity": {"user": "backup@contoso.example"}, "until": "2026-12-31"},
        {"rule": "*", "reason": "x", "tenant": TENANT},
    ]}  # fmt: skip
    made = changed(random, good, _EXCEPTION_KEYS, chance=0.15)
    return yaml.safe_dump(made, allow_unicode=random.random() < 0.5).encode("utf-8", "replace")


_PART = Part(1_795_824_000_000, {"user": ("ann@contoso.example", "a" * 200), "address": ("203.0.113.9",)})


def _prepare_exceptions(folder: Path) -> Attempt:
    def attempt(given: bytes) -> None:
        path = folder / "exceptions.yml"
        path.write_bytes(given)
        found, mistakes = read_exceptions(path)
        for mistake in mistakes:
            check_line(mistake)
        for one in found.every:
            one.holds(_PART, joined=True)

    return attempt


_LISTS = [
    b"203.0.113.0/24 # office\n2001:db8::/32;x\n::ffff:1.2.3.4/120\nevil.example,domain\nann#ext#@contoso.example\nhxxp://a[.]b\n",
    b"\xef\xbb\xbfExitAddress 203.0.113.9 2026-11-17\n\n# a comment\n'quoted'\n",
]


def _prepare_lists(_: Path) -> Attempt:
    def attempt(given: bytes) -> None:
        listed = parse_listed(given.decode("utf-8-sig", "replace"))
        for one in listed.mistakes:
            check_line(one)
        for text in (
            *_ADDRESSES,
            "a.b.evil.example",
            "ann#ext#@contoso.example",
            given[:300].decode("latin-1"),
        ):
            listed.has(text.lower())

    return attempt


@cache
def tables() -> list[bytes]:
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    made = []
    with TemporaryDirectory() as folder:
        for kind, told in (
            (
                "GeoLite2-City",
                {"country": {"iso_code": "DE"}, "location": {"latitude": 53.1, "longitude": 8.8}},
            ),
            (
                "GeoLite2-ASN",
                {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"},
            ),
        ):
            writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind, int_type="auto")
            for network in ("203.0.113.0/24", "192.0.2.0/24", "2001:db8:1::/48"):
                writer.insert_network(IPSet([network]), dict(told))
            writer.to_db_file(f"{folder}/table")
            made.append(Path(folder, "table").read_bytes())
    return made


def _prepare_tables(folder: Path) -> Attempt:
    def attempt(given: bytes) -> None:
        path = folder / "table.mmdb"
        path.write_bytes(given)
        try:
            table = open_table(path)
        except (ValueError, OSError) as error:
            check_line(str(error))
            return
        _ = table.tells
        for address in _ADDRESSES:
            found = table.find(address)
            f"{found}".encode()

    return attempt


_USERS = [
    b'{"name":"ann","role":"admin","hash":"x","stamp":"y","tenants":["a"],"contents":true}',
    b'{"id":"0123456789ab","name":"ci","digest":"x","scopes":["read"],"tenants":null,"created_at":"2026-11-17T09:00:00Z","created_by":"ann","expires_at":"2027-11-17T09:00:00Z"}',
]


def _prepare_users(folder: Path) -> Attempt:
    users, tokens = Users(folder), ApiTokens(folder)

    def attempt(given: bytes) -> None:
        with users.change() as board:
            board.execute("INSERT OR REPLACE INTO user VALUES ('ann', ?)", (given,))
            board.execute("INSERT OR REPLACE INTO token VALUES ('0123456789ab', 'ci', ?)", (given,))
        with allowed():
            users.list()
            users.find("ann")
        with allowed():
            tokens.kept()

    return attempt


TARGETS = (
    Target("configuration", _prepare_configuration, configurations, grow_configuration,
        tuple(f"{key}: ".encode() for key in known_keys()), free_cpu_s=2.0, input_bytes_max=24 << 10),
    Target("exceptions", _prepare_exceptions, lambda: _EXCEPTIONS, grow_exceptions,
        (b"rule: ", b"entity: ", b"until: ", b"reason: ", b"tenant: ", b"&a ", b"*a", b"<<: ", b"!!python/object ", b"!!binary ", b"? ", b"|\n", b"---\n")),
    Target("lists", _prepare_lists, lambda: _LISTS, None, (b"[.]", b"hxxp", b"#ext#", b"/24", b"::", b"ExitAddress ")),
    Target("tables", _prepare_tables, tables, input_bytes_max=256 << 10),
    Target("users", _prepare_users, lambda: _USERS),
)  # fmt: skip
