"""What a changed property has gained and lost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING

from m365watch.detection.fields.record_view import (
    VALUES_MAX,
    Reader,
    Value,
    every_value,
    json_text,
    open_json,
    read_named,
    text_of,
)

if TYPE_CHECKING:
    from typing import Any

    from m365watch.detection.fields.record_view import View


_NETWORK = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")
"""What may be an address or a network; whether it is one, `ip_network` says."""


def gained(name: str) -> Reader:
    """Reads what the property's new value has and its old one lacks."""
    return lambda view: _difference(view, name, of="new", without="old")


def lost(name: str) -> Reader:
    """Reads what the property's old value had and its new one lacks."""
    return lambda view: _difference(view, name, of="old", without="new")


def _difference(view: View, name: str, *, of: str, without: str) -> tuple[Value, ...]:
    gone = set(_elements(view.named("ModifiedProperties", without), name))
    return tuple(one for one in _elements(view.named("ModifiedProperties", of), name) if one not in gone)


def _elements(properties: Mapping[str, Any], name: str) -> list[str]:
    """One side's elements: of a list each, and every plain value at any depth; of a text its parts at ;."""
    whole = properties.get(name.lower())
    if whole is None:
        return [text_of(value) for value in read_named(properties, name)]
    opened = open_json(whole)
    if isinstance(opened, list | dict):
        outer = opened if isinstance(opened, list) else [opened]
        texts = [json_text(one) for one in outer[:VALUES_MAX] if isinstance(one, list | dict)]
        return list(dict.fromkeys((*texts, *every_value(opened))))
    if isinstance(opened, str):
        return [part for part in (piece.strip() for piece in opened.split(";")) if part]
    return [] if opened is None else [text_of(opened)]


def gained_networks(name: str) -> Reader:
    """Reads the networks and addresses in the property's new value that its old one lacks.

    They are looked for in the text, for several may stand in one value, between commas.
    """

    def read(view: View) -> tuple[Value, ...]:
        before = set(_networks(view.named("ModifiedProperties", "old"), name))
        return tuple(
            one for one in _networks(view.named("ModifiedProperties", "new"), name) if one not in before
        )

    return read


def _networks(properties: Mapping[str, Any], name: str) -> list[str]:
    texts = list(every_value(properties.get(name.lower())))
    found = [
        _network_of(text) for one in texts for text in _NETWORK.findall(one) if "." in text or "::" in text
    ]
    return list(dict.fromkeys(network for network in found if network))[:VALUES_MAX]


def _network_of(text: str) -> str:
    """The network in its one form, a lone address with its full length; empty where the text is none."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return ""
