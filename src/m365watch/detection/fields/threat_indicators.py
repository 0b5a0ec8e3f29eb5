"""Whether a record names something that is known to be bad."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from m365watch.config.models.values import GUID
from m365watch.detection.fields.clients import APPS

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]{0,20}://)?(?:[^/?#@\s]{0,200}@)?\[?([^/?#:\]\s]{1,253})")
_ADDRESSES = ("m365.ip", "SenderIp", "UserIp")
_RECEIVERS = ("m365.recipients", "m365.external_target")
_FILES = ("SourceFileName", "FileData.SHA256", "AttachmentData.SHA256")


def indicator(view: View) -> tuple[Value, ...]:
    """Those values of the record that are on a list of indicators, in lower case."""
    named = (*_ADDRESSES, *APPS, "ObjectId", *_RECEIVERS, *_FILES, "P2Sender")
    return _listed(view, lambda: (*_words(view, *named), *_words_of_links(view)))


def indicator_address(view: View) -> tuple[Value, ...]:
    """Those that are addresses from which something came."""
    return _listed(view, lambda: _words(view, *_ADDRESSES))


def indicator_app(view: View) -> tuple[Value, ...]:
    """Those that are applications: who acted, or was let in."""
    objects = (one for one in _words(view, "ObjectId") if GUID.fullmatch(one))
    return _listed(view, lambda: (*_words(view, *APPS), *objects))


def indicator_receiver(view: View) -> tuple[Value, ...]:
    """Those to whom mail is sent on or something is shared, or their domains."""
    return _listed(view, lambda: _words(view, *_RECEIVERS))


def indicator_file(view: View) -> tuple[Value, ...]:
    """Those that a file is known by: its hash, its name or its place."""
    objects = (one for one in _words(view, "ObjectId") if not GUID.fullmatch(one))
    return _listed(view, lambda: (*_words(view, *_FILES), *objects))


def indicator_link(view: View) -> tuple[Value, ...]:
    """Those that are a link of the web, or its host."""
    return _listed(view, lambda: _words_of_links(view))


def _listed(view: View, words: Callable[[], Iterable[str]]) -> tuple[Value, ...]:
    bad = view.knowledge.indicators
    return tuple(word for word in dict.fromkeys(words()) if word and word in bad) if bad else ()


def _words(view: View, *names: str) -> Iterator[str]:
    """The values of these fields, and of each that is somebody's address its domain."""
    for name in names:
        for value in view.values(name):
            text = str(value).lower()
            yield text
            if "@" in text:
                yield text.rpartition("@")[2]


def _words_of_links(view: View) -> Iterator[str]:
    for value in view.values("Url"):
        text = str(value).lower()
        host = _HOST.match(text)
        yield text
        yield host[1] if host else ""
