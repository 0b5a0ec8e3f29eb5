"""What the collector says of itself, as values: one `Notice` is one event of `devo.collectors.out`.

Source: devo.md 2, devo.collectors.out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from m365watch import __version__

_TENANT = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_FEED = re.compile(rf"({_TENANT.pattern})/([A-Za-z]+\.[A-Za-z]+)")
"""How a text names a feed: see `model.Feed`."""


@dataclass(frozen=True, slots=True)
class InputName:
    """Where a feed stands in the configuration."""

    input_name: str
    service_name: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks in all notices of a collector."""

    collector_name: str
    collector_image: str
    job_id: str | None = None
    inputs: Mapping[str, InputName] = field(default_factory=dict)
    """By the name of the feed, as `str(Feed)` gives it."""

    def input_of(self, text: str) -> tuple[str | None, str | None]:
        """The names of input and service of the first feed that `text` names.

        The input alone where it names a tenant only; two times None where it names neither.
        """
        for found in _FEED.finditer(text):
            if name := self.inputs.get(found[0]):
                return name.input_name, name.service_name
        for found in _TENANT.finditer(text):
            for feed, name in self.inputs.items():
                if feed.startswith(f"{found[0]}/"):
                    return name.input_name, None
        return None, None


def collector_image(named: str | None) -> str:
    """The image that notices name, always with the word `office365`, by which Devo's query finds them.

    `named` is what the environment says (COLLECTOR_IMAGE); without it, the product and its version.
    """
    own = f"m365watch/office365:{__version__}"
    if not named:
        return own
    return named if re.search(r"\boffice365\b", named) else f"{named} ({own})"


TABLE = "devo.collectors.out"
LEVELS = ("debug", "info", "warning", "error")
MSG_CHARACTERS_MAX = 4_096
"""A longer text is cut."""

_SECRET_SHAPES = re.compile(
    r"eyJ[\w.-]{16,}|(?i:\bbearer)\s+[^\s\"']+|(?<![\w.~-])[\w.~-]{3,64}Q~[\w.~-]{20,}", re.ASCII
)
"""Tokens, what follows `Bearer`, and the secrets of Entra's applications."""
_BLOT = "***"


@dataclass(frozen=True, slots=True)
class Notice:
    """One line of the collector's own, with the keys of Devo's."""

    msg: str
    at: datetime
    level: str
    """One of `LEVELS`."""
    speaker: Speaker
    module_name: str
    input_name: str | None = None
    service_name: str | None = None

    @property
    def tag(self) -> str:
        """Where it goes at Devo: `devo.collectors.out.local.<level>`, as no notice is for several domains."""
        return f"{TABLE}.local.{self.level}"

    def as_json(self) -> bytes:
        """Devo's JSON object, in UTF-8 and without a line break."""
        fields: dict[str, object] = {
            "msg": self.msg,
            "time": f"{self.at:%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": self.level,
            "collector_name": self.speaker.collector_name,
            "collector_version": __version__,
            "collector_image": self.speaker.collector_image,
            "input_name": self.input_name,
            "service_name": self.service_name,
            "module_name": self.module_name,
            "job_id": self.speaker.job_id,
        }
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")


def plain_msg(text: str, *, hide: Collection[str] = ()) -> str:
    """`text` in one line, at most `MSG_CHARACTERS_MAX` characters long.

    Stars stand for each of `hide` and for whatever has the shape of a secret.
    """
    for secret in hide:
        text = text.replace(secret, _BLOT)
    line = " ".join(_SECRET_SHAPES.sub(_BLOT, text).split())
    return line if len(line) <= MSG_CHARACTERS_MAX else f"{line[: MSG_CHARACTERS_MAX - 4]} ..."
