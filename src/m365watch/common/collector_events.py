"""What the collector says of itself, as values: one `Notice` is one event of `devo.collectors.out`.

Source: devo.md 2, devo.collectors.out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from m365watch import __version__
from m365watch.common.speaker import Speaker

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
