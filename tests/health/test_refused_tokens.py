"""Every code of Entra's that the contract names: the simulator gives it, and `check` has a cure for it."""

from __future__ import annotations

import asyncio

import pytest
from promises import guarantee

from m365watch.auth.refusals import PASSING_FIX, REFUSALS, Refusal, token_refusal
from m365watch.common.errors import CredentialsRefused
from m365watch.registry.checks import Check, Checked
from m365watch.registry.credential_specs import CREDENTIALS
from m365watch_simulator.entra.aadsts import aadsts_codes
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.scenario import Scenario
from preflight_scene import BROKEN, groups_of, settings_of, simulating, steps_of

CONTRACT = (
    *(7000215, 7000222, 700027, 700016, 90002, 900144, 7000218, 70011, 1002012, 500011, 650057, 650052),
    *(7000112, 700024, 700030, 50012, 50027, 700025, 900382, 900432, 900023, 90055, 90024, 90006, 90012),
    *(90033, 90011, 53003, 700229, 7000229),
)
"""The codes of api-contract 1.7, 1.9 and 5.10."""
KEYS = [spec.key for spec in CREDENTIALS.specs]
_SIGNED = {"certificate_file", "federated_token_file", "managed_identity"}
_OF_OTHERS = {"federated_token_file", "managed_identity"}
MET_BY: dict[int, set[str]] = {
    **{code: {"client_secret"} for code in (7000215, 7000222)},
    **dict.fromkeys((50012, 50013, 50027, 700024, 700027, 700030), _SIGNED),
    **dict.fromkeys((70021, 700211, 700212, 700213, 700229), _OF_OTHERS),
}
"""Codes that only some kinds of credentials can be refused with."""


@pytest.fixture(scope="module")
def tokens_refused(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Checked]:
    """The step of the token, for every code that the simulator knows, out of a whole preflight each."""
    folder = tmp_path_factory.mktemp("codes")

    async def main() -> dict[int, Checked]:
        found = {}
        async with simulating() as running:
            [tenant] = running.tenants
            settings = settings_of(folder, running)
            for code in aadsts_codes():
                rule = {"on": "token", "answer": "aadsts", "code": code, "times": "always"}
                tenant.faults = FaultPlan(Scenario.model_validate({"rules": [rule]}), seed=1)
                [found[code]] = steps_of(await groups_of(settings), Check.TOKEN)
        return found

    return asyncio.run(main())


@guarantee(25)
@pytest.mark.parametrize("code", CONTRACT)
def test_every_code_of_the_contract_has_a_cure(code: int, tokens_refused: dict[int, Checked]) -> None:
    """The line names the code, and the hint is the code's own, or for a passing failure to wait."""
    step = tokens_refused[code]
    known = {refusal.code: refusal for refusal in REFUSALS}[code]

    assert step.verdict is BROKEN
    assert step.seen.startswith(f"AADSTS{code}: {known.cause}")
    assert step.fix == (known.fix_for("client_secret") or PASSING_FIX)


def test_every_code_that_the_collector_knows_can_be_simulated() -> None:
    """None is left to be met for the first time at a customer's."""
    assert {refusal.code for refusal in REFUSALS} - set(aadsts_codes()) == set()


@guarantee(25)
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal.code))
def test_a_cure_names_the_credential_in_use_and_no_other(refusal: Refusal, kind: str) -> None:
    """Who has a certificate is not told to renew a secret."""
    if kind not in MET_BY.get(refusal.code, set(KEYS)) or not refusal.fix_for(kind):
        return
    said = {"error": "invalid_client", "error_codes": [refusal.code]}
    error = token_refusal(said, where="here", hide=(), name=kind)

    assert isinstance(error, CredentialsRefused)
    assert error.fix == refusal.fix_for(kind)
    assert [other for other in KEYS if other != kind and f".{other}" in error.fix] == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (7000215, "client_secret"),
        (7000222, "client_secret"),
        (700027, "certificate_file"),
        (700027, "federated_token_file"),
        (700213, "federated_token_file"),
        (700213, "managed_identity"),
    ],
)
def test_a_refused_credential_is_named_by_its_key(code: int, kind: str) -> None:
    """So that nobody has to look the key up."""
    known = {refusal.code: refusal for refusal in REFUSALS}[code]

    assert f"credentials.{kind}" in known.fix_for(kind)


@pytest.mark.parametrize("code", [7000215, 7000222])
def test_a_refused_secret_is_not_sent_from_its_file_into_the_configuration(code: int) -> None:
    """Whoever keeps it in a file is told to change the file's content."""
    known = {refusal.code: refusal for refusal in REFUSALS}[code]

    assert known.fix_for("client_secret_file").endswith("into credentials.client_secret_file")
    assert known.fix_for("second.client_secret_file").endswith("into credentials.second.client_secret_file")
