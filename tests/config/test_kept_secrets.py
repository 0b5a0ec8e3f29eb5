"""A section is edited by somebody who never sees its secrets, and has them again afterwards."""

from __future__ import annotations

import pytest

from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import MARK, with_secrets, without_secrets

ENTRA = "abc8Q~" + "x" * 34
SECTION = f"""\
credentials:
  client_id: one
  client_secret: 'it''s secret'   # ours
  second: {{client_secret: {ENTRA}}}
  private_key: |
    -----BEGIN PRIVATE KEY-----
    AAAA
    -----END PRIVATE KEY-----
  certificate_password_file: secrets/word
token: ${{M365_TOKEN}}
environment: {ENTRA}
network: {{proxy: "http://me:word@proxy.example:3128"}}
# the old one: {ENTRA}
"""


def test_no_secret_is_in_what_is_shown() -> None:
    """Whatever key it stands under, and in comments; what only refers to one is shown."""
    shown = without_secrets(SECTION)

    for secret in ("it''s", ENTRA, "AAAA", "me:word"):
        assert secret not in shown
    assert shown.count(MARK) == 5
    for reference in ("secrets/word", "${M365_TOKEN}", "# ours"):
        assert reference in shown


def test_what_is_put_back_is_as_it_was() -> None:
    """Every byte, but for what stood in a comment."""
    again = with_secrets(without_secrets(SECTION), SECTION)

    assert again == SECTION.replace(f"one: {ENTRA}", "one: ***")


def test_a_secret_that_is_typed_takes_the_place_of_the_kept_one() -> None:
    """The others stay."""
    typed = without_secrets(SECTION).replace(f'client_secret: "{MARK}"   # ours', "client_secret: new")

    assert "client_secret: new\n" in with_secrets(typed, SECTION)
    assert "AAAA" in with_secrets(typed, SECTION)


@pytest.mark.parametrize(
    "moved",
    [
        f'environment2: "{MARK}"',
        f'credentials: {{client_id: "{MARK}"}}',
        f'credentials: {{client_secret: "x {MARK}"}}',
        f'credentials: {{client_secret: ["{MARK}"]}}',
    ],
)
def test_a_mark_is_good_at_its_own_place_alone(moved: str) -> None:
    """Elsewhere it would be shown, or sent to somebody."""
    with pytest.raises(Unreadable, match="type the secret"):
        with_secrets(moved, SECTION)
