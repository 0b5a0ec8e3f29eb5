"""Devo's Alerts API: looks for a definition by its name, makes it, changes it, takes it away.

Source: Devo's pages "Working with alert definitions" and "Authorizing Alerts API requests". The token goes
in a header of its own, to the host that was named and to no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from yarl import URL

from m365watch.common.errors import AlertsRefused, BadAnswer, RetryLater, Throttled, Unavailable
from m365watch.detection.export.devo_alert_definitions import Definition, Each, Low
from m365watch.health.devo_error_codes import CONNECTION_CLOSED

if TYPE_CHECKING:
    from m365watch.common.secret import Secret
    from m365watch.http.client import Answer, Session


SILENT_AFTER = timedelta(hours=1)
"""A running collector says something every 5 minutes unless it is set otherwise, so an hour is no chance."""
SILENT_PERIODS = 3
"""Where it is set to say something more rarely, so many of its times pass before it counts as silent."""


def collector_alerts(
    collector_name: str, *, says_every: timedelta, records_after: timedelta | None
) -> list[Definition]:
    """What watches the collector of that name, as `devo.collectors.out` has it.

    `says_every` is how long it is never silent for.

    Records are watched too where `records_after` says how long a tenant may be silent. Raises: ValueError
    where the name cannot stand in a query.
    """
    name = linq_text(collector_name)
    found = [
        _failed(collector_name, name),
        _silent(collector_name, name, max(SILENT_AFTER, SILENT_PERIODS * says_every)),
    ]
    return found if records_after is None else [*found, _no_records(collector_name, records_after)]


def linq_text(text: str) -> str:
    """`text` as a LINQ string. Raises: ValueError for characters of which Devo documents no escape."""
    if not text or not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError(
            f"{text!r} cannot stand in a query: quotation marks, backslashes and control characters"
        )
    return f'"{text}"'


def _failed(collector_name: str, name: str) -> Definition:
    return Definition(
        name=f"m365watch {collector_name}: collector failed",
        headline="$collector_name lost a connection $messages_unsuccessfully_processed times in 5 minutes",
        description=(
            "Microsoft, a receiver or the store of state closed the connection of job $job_id. Nothing is "
            "lost by it: it is tried again. Where it lasts, ask m365watch status and m365watch why."
        ),
        query=(
            f'from devo.collectors.out where toktains(msg,"{CONNECTION_CLOSED}"), '
            f'toktains(collector_image,"office365"), collector_name = {name} '
            "group every 5m by collector_name, job_id select count() as messages_unsuccessfully_processed"
        ),
        trigger=Each(),
        priority=3,
    )


def _silent(collector_name: str, name: str, after: timedelta) -> Definition:
    return Definition(
        name=f"m365watch {collector_name}: collector silent",
        headline=f"{collector_name} has said nothing for {_hours(after)}: it is dead, or cannot reach Devo",
        description=(
            "A running collector says something all the time. Look whether its process runs and whether "
            "its machine reaches Devo; Microsoft keeps the records for 7 days, and the next run fetches them."
        ),
        query=f"from devo.collectors.out where collector_name = {name}",
        trigger=Low(after),
        priority=5,
    )


def _no_records(collector_name: str, after: timedelta) -> Definition:
    return Definition(
        name=f"m365watch {collector_name}: no records",
        headline=f"no record of Microsoft 365 for {_hours(after)}",
        description=(
            "Either nobody works, or Microsoft publishes nothing, or the collector cannot fetch. "
            "m365watch why names the broken step; m365watch gaps tells unusual silence from usual."
        ),
        query="from cloud.office365.management",
        trigger=Low(after),
        priority=4,
    )


def _hours(after: timedelta) -> str:
    return f"{after / timedelta(hours=1):g} h"


PAGE = 1_000
"""Definitions in one answer of the list; names are filtered there, so that one page is plenty."""
ANSWER_SHOWN_MAX = 200
"""Characters of a refusal that are shown."""


class Outcome(StrEnum):
    """What a definition's way to Devo came to."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    ABSENT = "absent"


class DevoAlerts:
    """The definitions of one domain at Devo."""

    def __init__(self, session: Session, *, root: str, token: Secret) -> None:
        """`root` is such as https://api-us.devo.com/alerts; the token decides the domain."""
        self._session = session
        self._url = f"{root.rstrip('/')}/v1/alertDefinitions"
        self._token = token

    async def find(self, name: str) -> Mapping[str, Any] | None:
        """The definition of exactly that name, as Devo keeps it; None where there is none.

        Raises: AlertsRefused, RetryLater.
        """
        url = URL(self._url).with_query(page=0, size=PAGE, nameFilter=name)
        listed = await self._asked("GET", url)
        if not isinstance(listed, list):
            raise BadAnswer("the list of definitions is no array", where=self._where)
        return next((one for one in listed if isinstance(one, dict) and one.get("name") == name), None)

    async def install(self, definition: Definition) -> Outcome:
        """Make Devo keep the definition, and read it back; what is there already stays as it is.

        Raises: AlertsRefused, also where Devo kept something else; RetryLater.
        """
        kept = await self.find(definition.name)
        if kept is not None and not definition.difference(kept):
            return Outcome.UNCHANGED
        document = definition.document()
        if kept is None:
            await self._asked("POST", URL(self._url), document)
        else:
            await self._asked("PUT", URL(self._url), {"id": kept.get("id"), **document})
        await self._prove(definition)
        return Outcome.CREATED if kept is None else Outcome.UPDATED

    async def remove(self, name: str) -> Outcome:
        """Take the definition of that name away. Raises: AlertsRefused, RetryLater."""
        kept = await self.find(name)
        if kept is None:
            return Outcome.ABSENT
        await self._asked("DELETE", URL(self._url).with_query(alertIds=str(kept.get("id"))))
        return Outcome.REMOVED

    async def _prove(self, definition: Definition) -> None:
        kept = await self.find(definition.name)
        if kept is None:
            raise AlertsRefused(
                f"took {definition.name!r} and does not list it",
                where=self._where,
                fix="look in Devo under Administration, Alert configuration",
            )
        other = definition.difference(kept)
        if other:
            raise AlertsRefused(
                f"keeps {definition.name!r} with another {', '.join(other)}",
                where=self._where,
                fix="look in Devo under Administration, Alert configuration, who else changes it",
            )

    async def _asked(self, method: str, url: URL, document: Mapping[str, Any] | None = None) -> Any:
        headers = {"standAloneToken": self._token.reveal(), "Accept": "application/json"}
        body = None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(document).encode()
        answer = await self._session.send(method, url, headers=headers, where=self._where, form=body)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(answer)
        try:
            return json.loads(answer.body) if answer.body.strip() else None
        except (ValueError, RecursionError):
            raise BadAnswer("the answer is no JSON", where=self._where) from None

    def _refusal(self, answer: Answer) -> RetryLater | AlertsRefused:
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            return Throttled(f"answered HTTP {answer.status}", where=self._where)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(f"answered HTTP {answer.status}", where=self._where)
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            fix = (
                "make a token of the type Alert API in Devo (Administration, Credentials, Authentication "
                "tokens), for the tables of the queries, by a user whose role manages Alert configuration"
            )
        elif answer.status == HTTPStatus.NOT_FOUND:
            fix = "look at --api: it ends in /alerts"
        else:
            fix = "look at what Devo says"
        said = self._without_token(answer.body.decode(errors="replace"))
        return AlertsRefused(f"answered HTTP {answer.status}{said}", where=self._where, fix=fix)

    def _without_token(self, said: str) -> str:
        text = " ".join(said.replace(self._token.reveal(), "***").split())
        shown = "".join(character for character in text if character.isprintable())[:ANSWER_SHOWN_MAX]
        return f": {shown}" if shown else ""

    @property
    def _where(self) -> str:
        return f"Devo's Alerts API at {URL(self._url).host}"
