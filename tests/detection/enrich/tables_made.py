"""Small tables of addresses, in the format of those that people buy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

CITY: dict[str, dict[str, Any]] = {
    "203.0.113.0/24": {
        "country": {"iso_code": "BR", "names": {"en": "Brazil"}},
        "city": {"names": {"en": "Porto Velho"}},
        "location": {"latitude": -8.76, "longitude": -63.9},
    },
    "192.0.2.0/24": {
        "country": {"iso_code": "DE"},
        "city": {"names": {"en": "Bremen"}},
        "location": {"latitude": 53.08, "longitude": 8.8},
    },
    "2001:db8:1::/48": {"country": {"iso_code": "FR"}},
}
ASN: dict[str, dict[str, Any]] = {
    "203.0.113.0/24": {
        "autonomous_system_number": 64500,
        "autonomous_system_organization": "Example Hosting",
    }
}
ANONYMOUS: dict[str, dict[str, Any]] = {"203.0.113.66/32": {"is_anonymous": True, "is_tor_exit_node": True}}


def make_table(path: Path, networks: Mapping[str, Mapping[str, Any]], *, kind: str) -> Path:
    """A table of that kind, as its maker calls it."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind, int_type="auto")
    for network, told in networks.items():
        writer.insert_network(IPSet([network]), dict(told))
    writer.to_db_file(str(path))
    return path
