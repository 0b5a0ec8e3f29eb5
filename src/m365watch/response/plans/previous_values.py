"""What a setting was before a change: the record's word for it, or where else it may be found.

Source: Microsoft Entra audit logs (Modified properties); Defender for Office 365, "Configuration analyzer",
for the policies whose history it keeps.
"""

from __future__ import annotations

import re

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import CUT
from m365watch.response.plans.alert_evidence import Clues

FIELD = "m365.earlier_values"
_BEFORE = "Before the change at "
EARLIER_MAX = 10
"""Changes of one thing of which a step says what was before."""
_ANALYSED = re.compile(
    r"-(?:antiphish|hostedcontentfilter|hostedoutboundspamfilter|malwarefilter|safeattachment|safelinks)policy$"
)
"""Cmdlets on policies that Defender compares with its recommendations."""
_MADE = ("add", "enable", "invite", "new")
OF_CMDLET = (
    "What it was before no record of a cmdlet tells. Search the lake for earlier records of its name, or ask"
    " whoever set it up."
)
_OF_DEFENDER = (
    "What it was before no record of a cmdlet tells: the Configuration analyzer of Defender has it"
    " (Configuration drift analysis and history)."
)
_OF_ENTRA = (
    "The record does not tell what it was before: Entra's audit log may have it (Modified properties), and so"
    " may an earlier record of it in the lake."
)


def how_it_was(clues: Clues) -> tuple[str, ...]:
    """What stands above a step that puts something back; nothing where it was made new."""
    told = clues.told(FIELD)
    if told and clues.places:
        at = instant_of_ms(min(clues.places)[0])
        rest = "; the rest: `m365watch alerts show --raw`." if told[0].endswith(CUT) else "."
        return (f"{_BEFORE}{at:%Y-%m-%d %H:%M:%S}Z, by its record: {told[0]}{rest}",)
    operation = clues.operation
    if not operation or re.split(r"[ -]", operation)[0] in _MADE:
        return ()
    if operation.endswith("."):
        return (_OF_ENTRA,)
    return (_OF_DEFENDER if _ANALYSED.search(operation) else OF_CMDLET,)


def with_earlier(notes: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """The notes of a step, and what those of the same step for a later record say of before that one."""
    known = sum(one.startswith(_BEFORE) for one in notes)
    more = [one for one in others if one.startswith(_BEFORE) and one not in notes]
    return (*notes[:known], *more[: EARLIER_MAX - known], *notes[known:]) if known and more else notes
