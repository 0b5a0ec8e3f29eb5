"""What administrators do on the pages of the configuration: a change is looked at, made, or tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from m365watch.board.access.audit_recorder import tell
from m365watch.board.access.roles import Role
from m365watch.board.app.alert_actions import body_of
from m365watch.board.app.responses import bit_by_bit, given, said
from m365watch.board.app.security_middleware import access_of
from m365watch.board.config_editor.config_changes import Change, Write, words_of_effect
from m365watch.board.config_editor.config_file import ChangedMeanwhile, Judged
from m365watch.board.config_editor.preflight import Busy, TrialAsked, Trials
from m365watch.board.query.data_sources import Sources
from m365watch.board.widgets.template_renderer import Templates
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError, SettingsRefused
from m365watch.config.document import Unreadable

BODY_BYTES_MAX = 262_144
A = TypeVar("A", "Asked", "TrialAsked", "UploadAsked")
Act = Callable[[Request], Awaitable[Response]]
_log = structlog.get_logger(__name__)


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A change, and the text that it is for."""

    change: Change
    base: str


class UploadAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Files for keys of an instance, and the instance as it is typed."""

    change: Write
    base: str
    files: dict[str, bytes]
    """In base64, by their keys: `credentials.certificate_file`."""


class Configuring:
    """The routes that change the configuration."""

    def __init__(self, sources: Sources, templates: Templates) -> None:
        """Nothing is read yet."""
        self._sources = sources
        self._trials = Trials(sources, templates)

    def routes(self) -> list[Route]:
        """Where a change is looked at, made and tried."""
        return [
            Route(f"/collectors/{name}", _answering(name, act), methods=["POST"])
            for name, act in (
                ("review", self._review),
                ("apply", self._apply),
                ("try", self._try),
                ("upload", self._upload),
            )
        ]

    async def _review(self, request: Request) -> Response:
        asked = await self._asked(request, Asked)
        if isinstance(asked, Response):
            return asked
        try:
            judged = await asyncio.to_thread(
                self._sources.desk.judge, self._sources.settings, asked.change, asked.base
            )
        except ChangedMeanwhile as error:
            return _changed(error)
        except CollectorError as error:
            return said(422, error.what)
        then = await asyncio.to_thread(words_of_effect, self._sources.settings, asked.change, judged.settings)
        return given(_judged_document(judged, then, self._sources.desk.hiding(self._sources.settings)))

    async def _apply(self, request: Request) -> Response:
        asked = await self._asked(request, Asked)
        if isinstance(asked, Response):
            return asked
        access, sources = access_of(request), self._sources
        try:
            await self._judged(request, asked, "a change that was refused")
            past = await asyncio.to_thread(
                sources.desk.apply,
                sources.settings,
                asked.change,
                asked.base,
                by=access.name,
                at_s=sources.clock.now().timestamp(),
            )
        except ChangedMeanwhile as error:
            return _changed(error)
        except SettingsRefused as error:
            return said(422, self._hide("; ".join(error.mistakes)))
        except CollectorError as error:
            return said(503, str(error))
        _log.info(f"board: {access.name} {past.what}", change=past.number)
        tell(request.scope, f"{past.what} (change {past.number})")
        await sources.take_up()
        return given({"says": f"Change {past.number}: {past.what}", "number": past.number})

    async def _try(self, request: Request) -> Response:
        asked = await self._asked(request, TrialAsked)
        if isinstance(asked, Response):
            return asked
        what = asked.of or "everything"
        try:
            judged = await self._judged(request, asked, f"preflight of {what}")
            told = await self._trials.begin(asked, judged)
        except ChangedMeanwhile as error:
            return _changed(error)
        except Busy:
            return said(429, "another preflight is under way; wait for its end")
        except SettingsRefused as error:
            return said(422, self._hide("; ".join(error.mistakes)))
        except CollectorError as error:
            return said(422, self._hide(error.what))
        return bit_by_bit(_lines(told), media_type="application/x-ndjson")

    async def _upload(self, request: Request) -> Response:
        asked = await self._asked(request, UploadAsked)
        if isinstance(asked, Response):
            return asked
        sources, change = self._sources, asked.change
        try:
            text = await asyncio.to_thread(
                sources.desk.upload, sources.settings, change, asked.base, asked.files
            )
        except ChangedMeanwhile as error:
            return _changed(error)
        except Unreadable as error:
            return said(422, str(error))
        except CollectorError as error:
            return said(503, str(error))
        keys = ", ".join(sorted(asked.files))
        tell(request.scope, f"uploaded {keys} for {change.kind.removesuffix('s')} {change.name}")
        return given({"text": text})

    async def _judged(self, request: Request, asked: Asked | TrialAsked, what: str) -> Judged | None:
        """What the change comes to, if there is one; the trail keeps `what` with its difference."""
        tell(request.scope, what)
        if asked.change is None:
            return None
        desk, settings = self._sources.desk, self._sources.settings
        judged = await asyncio.to_thread(desk.judge, settings, asked.change, asked.base)
        tell(request.scope, f"{what}\n{judged.difference}".rstrip())
        return judged

    def _hide(self, words: str) -> str:
        """The words without what variables of the file hold."""
        return self._sources.desk.hiding(self._sources.settings)(words)

    async def _asked(self, request: Request, kind: type[A]) -> A | Response:
        access = access_of(request)
        if not access.may(Role.ADMIN) or access.tenants is not None:
            return said(403, "your role may not change the configuration")
        try:
            asked = msgspec.json.decode(await body_of(request, bytes_max=BODY_BYTES_MAX), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return said(400, f"this request cannot be read: {error}")
        change, sources = asked.change, self._sources
        if not access.sees_contents and await asyncio.to_thread(
            sources.desk.touches_outputs, sources.settings, change
        ):
            return said(403, "your role does not see contents, so it changes no output")
        return asked


def _answering(name: str, act: Act) -> Act:
    """`act`, of which also an error that nobody foresaw is said in words that the page shows."""

    async def answer(request: Request) -> Response:
        try:
            return await act(request)
        except Exception as error:  # noqa: BLE001 - the editor keeps what was typed, and says what is wrong
            defect = defect_of(error, where=f"board collectors/{name}")
            _log.error(str(defect), code=defect.code)
            says = f"The board has a defect: {defect.what}; see Changes whether this was made"
            return given({"says": f"{says}; {defect.fix}", "code": defect.code}, status=500)

    return answer


async def _lines(told: AsyncGenerator[dict[str, object], None]) -> AsyncGenerator[bytes, None]:
    async for one in told:
        yield msgspec.json.encode(one) + b"\n"


def _judged_document(judged: Judged, then: list[str], hide: Callable[[str], str]) -> dict[str, object]:
    return {
        "can": judged.changed is not None and not judged.mistakes,
        "what": judged.changed.what if judged.changed else "",
        "mistakes": [{"says": hide(one.says), "line": one.line} for one in judged.mistakes],
        "notes": [hide(one) for one in judged.notes],
        "difference": judged.difference,
        "then": [hide(one) for one in then],
    }


def _changed(error: ChangedMeanwhile) -> Response:
    says = "The file was changed meanwhile, and nothing of yours is in it."
    return given({"says": says, "difference": error.difference}, status=409)
