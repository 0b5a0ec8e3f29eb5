"""A document made ready for the schema: variables filled in, placeholders and odd values refused.

What comes out is made of plain dicts, lists, texts, numbers, booleans and None, nested at most
`DEPTH_MAX` deep, whatever went in. What is switched off (`enabled: false`) is set aside unread, so
that a tenant that left does not keep the collector from starting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from m365watch.config.document import NOTIFICATIONS, Document, Pairs, section_at
from m365watch.config.models.values import VARIABLE
from m365watch.config.secrets import CREDENTIALS_VARIABLE
from m365watch.config.validation import filled_in_at, wanted_at
from m365watch.config.validation_report import SECRET_KEYS, KeyPath, Report

DEPTH_MAX = 20
VALUES_MAX = 200_000
TEXT_CHARACTERS_MAX = 4_096
KEY_CHARACTERS_MAX = 16_384
"""A private key in PEM has many lines, and more characters than any other text."""
INTEGER_BITS_MAX = 64

_OFF: Document = {"enabled": False}
"""Stands for every section that is switched off; told by identity, since 0 equals False."""

_LENT = (
    "systemd sets it in the service; to a command by hand it is lent: "
    "sudo systemd-run --pipe --wait --uid=USER -p LoadCredential=NAME:FILE m365watch ..."
)
"""What to do outside the unit, where the variable is not to be set by hand."""

_FOR_SECRETS = SECRET_KEYS | {f"{key}_file" for key in (*SECRET_KEYS, "certificate")}
"""Secrets, and the files they lie in: whoever sends nothing needs neither."""
_PLACEHOLDER = re.compile(r"\s*(?:<[^<>]*>|\.\.\.|\u2026)\s*")
_PLACEHOLDER_WITHIN = re.compile(r"<[A-Za-z][^<>]*>")
_ODD_IN_KEYS = re.compile(r"[|\x00-\x1f\x7f\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def tidy_document(
    document: object,
    *,
    environment: Mapping[str, str],
    report: Report,
    fills_secrets: bool = True,
    fills_board: bool = True,
) -> object:
    """The document with `${NAME}` filled in; what cannot be used is in `report` and left as it is.

    Secrets stay as they are written where `fills_secrets` is false, those of the section `board` where
    `fills_board` is.
    """
    fills = (fills_secrets, fills_board)
    return _Tidying(environment, report, fills=fills).tidy(document, ())


def is_placeholder(text: str) -> bool:
    """Whether a text stands for something that is to be filled in: `<tenant>`, or dots."""
    return _PLACEHOLDER.fullmatch(text) is not None


def is_off(value: object) -> bool:
    """Whether a section was set aside because it is switched off."""
    return value is _OFF


def set_aside(document: Document, report: Report) -> None:
    """Take what is switched off of inputs, outputs and notifications out of it, with a warning for each."""
    for kind in (("inputs",), ("outputs",), NOTIFICATIONS):
        section = section_at(document, *kind)
        off = [name for name in section if is_off(section[name])]
        for name in off:
            del section[name]
            report.warn((*kind, name), "is switched off and was not read")
        if off and not section and kind == ("outputs",):
            report.refuse(("outputs",), "every output is switched off; switch one on, or remove the key")


class _Tidying:
    """One walk over one document; counts the values it meets so that it always ends."""

    def __init__(self, environment: Mapping[str, str], report: Report, *, fills: tuple[bool, bool]) -> None:
        self._environment = environment
        self._report = report
        self._fills_secrets, self._fills_board = fills
        self._values_left = VALUES_MAX

    def tidy(self, value: object, path: KeyPath) -> object:
        """The value as the schema is to see it."""
        self._values_left -= 1
        if self._values_left < 0 or len(path) > DEPTH_MAX:
            self._report.refuse((), "holds too much, or is nested too deeply, to be a configuration")
            return None
        if isinstance(value, Mapping | Pairs):
            return self._tidy_object(value, path)
        if isinstance(value, list | tuple):
            return [self.tidy(child, (*path, place)) for place, child in enumerate(value)]
        if isinstance(value, str):
            return self._tidy_text(value, path)
        return self._tidy_scalar(value, path)

    def _tidy_object(self, value: Mapping[object, object] | Pairs, path: KeyPath) -> dict[str, object]:
        pairs = value if isinstance(value, Pairs) else list(value.items())
        if _can_be_off(path) and any(self._switches_off(key, child) for key, child in pairs):
            return _OFF
        tidied: dict[str, object] = {}
        for key, child in pairs:
            if not isinstance(key, str):
                self._report.refuse_value(path, key, "is a key; give a text as the key")
            elif self._takes_key(key, path, known=key in tidied):
                tidied[key] = self.tidy(child, (*path, key))
        return tidied

    def _takes_key(self, key: str, path: KeyPath, *, known: bool) -> bool:
        if _PLACEHOLDER.fullmatch(key):
            self._report.refuse((*path, key), "is a placeholder as a key; give a name of your own")
        elif _ODD_IN_KEYS.search(key):
            self._report.refuse((*path, key), "has a character that no key has; write the key anew")
        elif known:
            self._report.refuse((*path, key), "is given twice; keep one of the two")
        else:
            return True
        return False

    def _switches_off(self, key: object, value: object) -> bool:
        if key == "enabled" and isinstance(value, str):
            return self._filled(value).strip().lower() == "false"
        return key == "enabled" and value is False

    def _tidy_text(self, text: str, path: KeyPath) -> str:
        filled = self._fill_in(text, path)
        is_key = path[-1:] == ("private_key",)
        characters_max = KEY_CHARACTERS_MAX if is_key else TEXT_CHARACTERS_MAX
        if _is_placeholder(text, path):
            self._report.refuse_value(path, text, f"is a placeholder; {filled_in_at(path)}")
        elif len(filled) > characters_max:
            self._report.refuse(path, f"is longer than {characters_max:,} characters; {wanted_at(path)}")
        elif _CONTROL.search(filled.replace("\r", "").replace("\n", "") if is_key else filled):
            self._report.refuse(
                path, f"has a line break or another character that cannot be used; {wanted_at(path)}"
            )
        return filled

    def _fill_in(self, text: str, path: KeyPath) -> str:
        if "${" not in text:
            return text
        self._report.hidden.add(path)
        fills = self._fills_board if path[:1] == ("board",) else self._fills_secrets
        is_of_credential = "credentials" in path and str(path[-1]).endswith("_file")
        if not fills and (is_of_credential or not _FOR_SECRETS.isdisjoint(path[-1:])):
            return text
        missing = [name for name in VARIABLE.findall(text) if not self._environment.get(name)]
        if missing:
            names = " and ".join(dict.fromkeys(missing))
            cure = _LENT if CREDENTIALS_VARIABLE in missing else "set it"
            self._report.refuse(path, f"the environment lacks {names}, or it is empty; {cure}")
        if "${" in VARIABLE.sub("", text):
            self._report.refuse(path, "has a ${ that starts no variable; write it as ${NAME}")
        return self._filled(text)

    def _filled(self, text: str) -> str:
        return VARIABLE.sub(lambda match: self._environment.get(match[1], ""), text)

    def _tidy_scalar(self, value: object, path: KeyPath) -> object:
        whole = isinstance(value, int) and value.bit_length() <= INTEGER_BITS_MAX
        if value is None or whole or (isinstance(value, float) and math.isfinite(value)):
            return value
        self._report.refuse_value(path, value, f"cannot stand in a configuration; {wanted_at(path)}")
        return None


def _is_placeholder(text: str, path: KeyPath) -> bool:
    if "obfuscation_data" in path:
        # A rule may well put "<removed>" in a value's place, and patterns have names in brackets.
        return False
    # A secret may hold any characters, so that only one that is a placeholder from end to end counts.
    within = SECRET_KEYS.isdisjoint(path) and _PLACEHOLDER_WITHIN.search(text)
    return bool(within or _PLACEHOLDER.fullmatch(text))


def _can_be_off(path: KeyPath) -> bool:
    is_input = len(path) == 2
    is_service = len(path) == 4 and path[2] == "services"
    is_output = len(path) == 2 and path[0] == "outputs"
    is_target = len(path) == 3 and path[:2] == NOTIFICATIONS
    return is_output or is_target or (path[:1] == ("inputs",) and (is_input or is_service))
