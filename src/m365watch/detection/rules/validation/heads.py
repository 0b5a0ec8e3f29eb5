"""What stands above a rule's condition: title, id, level, tags and so on.

Source: the Sigma specification 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from uuid import UUID

from m365watch.detection.rules.validation.diagnostics import Fault, perhaps

LEVELS = ("informational", "low", "medium", "high", "critical")
STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported")
_DATE = re.compile(r"([1-3][0-9]{3})-([01][0-9])-([0-3][0-9])|([1-3][0-9]{3})/([01]?[0-9])/([0-3]?[0-9])")
_TITLE_MAX = 256


def proofread_head(document: Mapping[str, object]) -> Iterator[Fault]:
    """Every mistake in these keys."""
    if document.get("title") is None:
        yield Fault(("title",), "is missing; give the rule a line that says what it finds")
    for key, judge in _JUDGES.items():
        if document.get(key) is not None and (told := judge(document[key])):
            yield Fault((key,), told)
    yield from _tags(document.get("tags"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        return f"is no text ({value!r}); put it in quotation marks" if _is_plain(value) else "is no text"
    return "" if value.strip() else "is empty; fill it in, or leave the key out"


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | bool | date)


def _title(value: object) -> str:
    long = isinstance(value, str) and len(value) > _TITLE_MAX
    return (
        f"is longer than {_TITLE_MAX} characters; put the rest into `description`" if long else _text(value)
    )


def _uuid(value: object) -> str:
    try:
        UUID(str(value))
    except ValueError:
        return "is no UUID; give one of your own, as `uuidgen` makes it, or leave the key out"
    return "" if isinstance(value, str) else _text(value)


def _one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    def judge(value: object) -> str:
        if isinstance(value, str) and value.lower() in known:
            return ""
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        return f"{str(value)[:60]} is not known; give {listed}"

    return judge


def _day(value: object) -> str:
    if isinstance(value, date):
        return ""
    told = "is no date; write it as 2026-11-30"
    found = _DATE.fullmatch(str(value))
    if found is None:
        return told
    try:
        date(*(int(part) for part in found.groups() if part is not None))
    except ValueError:
        return told
    return ""


def _list(value: object) -> str:
    return "" if isinstance(value, list) else "is no list; write `- ` before each entry"


def _tags(tags: object) -> Iterator[Fault]:
    if not isinstance(tags, list):
        return
    for place, tag in enumerate(tags):
        if not isinstance(tag, str) or "." not in tag:
            yield Fault(("tags", place), f"{tag} has no namespace; write it as attack.t1114.003")


_JUDGES: dict[str, Callable[[object], str]] = {
    "title": _title,
    "id": _uuid,
    "name": _text,
    "status": _one_of(STATUSES),
    "level": _one_of(LEVELS),
    "description": _text,
    "author": _text,
    "date": _day,
    "modified": _day,
    "tags": _list,
    "references": _list,
    "falsepositives": _list,
    "fields": _list,
    "scope": _list,
}


def proofread_source(
    document: Mapping[str, object], *, products: Collection[str], services: Collection[str]
) -> Iterator[Fault]:
    """Every mistake in the logsource of a rule or filter, of which these may stand there."""
    source = document.get("logsource")
    told = "write `logsource: {product: m365, service: exchange}`"
    if source is None:
        yield Fault(("logsource",), f"is missing; {told}")
    elif not isinstance(source, Mapping):
        yield Fault(("logsource",), f"is no map of keys and values; {told}")
    else:
        product, service = (str(source.get(key) or "").lower() for key in ("product", "service"))
        if product not in products and (product or service not in products):
            seen = f"{product or 'none'} is not m365, whose records this collector has"
            yield Fault(("logsource", "product"), seen + perhaps(product, products))
        if product in products and service and service not in services:
            told = perhaps(service, services) or f"; give one of {', '.join(sorted(services))}, or none"
            yield Fault(("logsource", "service"), f"{service} is none of this feed{told}")
