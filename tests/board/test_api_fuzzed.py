"""Whatever the document allows is answered as it says; whatever it does not allow is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from promises import guarantee
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from api_calls import Door
from asking import HOST, ask, sources_of
from m365watch.board.access.roles import Role, Scope
from m365watch.board.api.api_routes import api_document, operations


def without_security(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what it says of tokens: every request has the right one here."""
    paths = {
        path: {method: {**said, "security": []} for method, said in of.items()}
        for path, of in document["paths"].items()
    }
    return {**document, "paths": paths}


SCHEMA = schemathesis.openapi.from_dict(without_security(api_document()))
DESCRIBED = {one.ok().label: one.ok() for one in SCHEMA.get_all_operations() if isinstance(one, Ok)}
ADMINS = {f"{one.method} {one.path}" for one in operations() if one.role is Role.ADMIN}
"""No token is an administrator's."""
PANELS = [label for label in DESCRIBED if label.count("/") == 4 and "{" not in label and label not in ADMINS]
OTHERS = [label for label in DESCRIBED if label not in PANELS and label not in ADMINS]
ASKED = [
    f"{one.method} {one.path}"
    for one in operations()
    if (one.parameters or one.body) and f"{one.method} {one.path}" in OTHERS
]
WIDE = {*PANELS, *(label for label in OTHERS if label.endswith(("/records", "{panel}")))}
"""Those with most parameters, of which making one up takes a tenth of a second."""
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
QUICK = settings(
    database=None,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


def call(door: Door, case: Case[Any], token: str) -> Response:
    """What the board answers to a request that was made up."""
    sent = case.as_transport_kwargs(base_url=f"http://{HOST}")
    sent["headers"] = {
        **dict(sent.get("headers") or {}),
        "Authorization": f"Bearer {token}",
        "Accept-Encoding": "identity",
    }
    request = requests.Request(**{name: sent[name] for name in sent if name in _REQUESTS}).prepare()
    parts = urlsplit(str(request.url))
    body = request.body or b""
    answer = asyncio.run(
        ask(
            door.board,
            f"{parts.path}?{parts.query}",
            method=str(request.method),
            headers={str(name): str(value) for name, value in request.headers.items()},
            body=body if isinstance(body, bytes) else str(body).encode(),
        )
    )
    headers = {name: [value] for name, value in answer.headers.items()}
    return Response(answer.status, headers, answer.body, request, 0.0, verify=False)


_TOGETHER = ("from", "range: ", "to: ", "say what it was")
"""Whether two values go together, no schema says: the ends of a time, a state and its reason."""
_UNSEEN = "not all of them invisible"
"""Nor does it say of every sign whether it can be seen."""
_REQUESTS = {"method", "url", "headers", "params", "json", "data", "cookies"}


@guarantee(45)
@pytest.mark.parametrize("label", [*OTHERS, *PANELS[::8]])
def test_what_is_allowed_is_answered(door: Door, label: str) -> None:
    """Whatever users, names, times and bodies there are: no defect, and what the document promises."""
    token = door.token(*Scope)

    @settings(QUICK, max_examples=2 if label in WIDE else 10)
    @given(case=DESCRIBED[label].as_strategy(GenerationMode.POSITIVE))
    def judge(case: Case[Any]) -> None:
        answer = call(door, case, token)
        case.validate_response(answer, checks=[*CHECKS])
        told = answer.json()["detail"] if answer.status_code == 400 else ""
        assert not told or told.startswith(_TOGETHER) or told.endswith(_UNSEEN)

    judge()


@guarantee(45)
@pytest.mark.parametrize("label", [*ASKED, PANELS[0]])
def test_what_is_not_allowed_is_refused(door: Door, label: str) -> None:
    """What the document forbids is told to be wrong, and is never done."""
    token = door.token(*Scope)

    @settings(QUICK, max_examples=3 if label in WIDE else 8)
    @given(case=DESCRIBED[label].as_strategy(GenerationMode.NEGATIVE))
    def judge(case: Case[Any]) -> None:
        case.validate_response(call(door, case, token), checks=[*CHECKS, negative_data_rejection])

    judge()


@pytest.fixture(scope="module")
def door(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One for all tests here: its pages take longer to make than to ask."""
    sources = sources_of(collected)
    yield Door(sources, tmp_path_factory.mktemp("tokens"))
    assert sources.facts is not None
    sources.facts.close()
