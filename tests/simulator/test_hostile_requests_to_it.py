"""Requests as nobody makes them: the simulated service refuses them as the real one would."""

from __future__ import annotations

import base64

import pytest

from caller import calling, in_loop

NESTED = base64.urlsafe_b64encode(b"[" * 5_000 + b"]" * 5_000).decode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"--y"),
        ("application/x-www-form-urlencoded", b"grant_type=\xf4"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"grant_type=x"),
        ("a" + "(" * 2_000, b""),
    ],
)
@in_loop
async def test_a_form_that_is_none_is_an_empty_one(kind: str, body: bytes) -> None:
    """Found by the fuzzer: such a request was HTTP 500."""
    async with calling(signed_in=False, subscribed=False) as caller:
        for path in ("oauth2/v2.0/token", "openid/token"):
            url = f"{caller.running.url}/{caller.identity.tenant_id}/{path}"
            reply = await caller.send("POST", url, data=body, headers={"Content-Type": kind})
            assert reply.status in {400, 401}
            assert "error" in reply.document


@pytest.mark.parametrize("assertion", [f"{NESTED}.{NESTED}.x", "a.b.c", "é.é.é", "."])
@in_loop
async def test_an_assertion_that_cannot_be_read_is_refused(assertion: str) -> None:
    """However deep it is nested."""
    async with calling(signed_in=False, subscribed=False) as caller:
        reply = await caller.ask_token(
            client_secret="",
            client_assertion=assertion,
            client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        )
        assert reply.status in {400, 401}
        assert "error" in reply.document
