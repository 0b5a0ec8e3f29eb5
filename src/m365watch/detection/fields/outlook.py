"""What a rule that Outlook saved does, in words: it is told as JSON, or as names between commas.

Source: the shapes that the schema and published rules of detection document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_ACTIONS_MAX = 10
_KINDS = ("actiontype", "type", "action", "name")
"""Keys that say what an action is; what stands under the others is what it does it with."""


def rule_actions(view: View) -> tuple[Value, ...]:
    r"""Each action: "Move: \RSS Feeds", "Delete"; those of the saved rule, else the names of them."""
    from m365watch.detection.fields.record_view import open_json

    rule = open_json(view.first("OperationProperties.ServerRule"))
    named = _below(rule, "actions") if isinstance(rule, Mapping) else None
    told = list(_told(named)) or list(_told(open_json(view.first("OperationProperties.RuleActions"))))
    return tuple(dict.fromkeys(told))[:_ACTIONS_MAX]


def _told(actions: Any) -> Iterator[str]:
    from m365watch.detection.fields.record_view import every_value, open_json

    for one in actions if isinstance(actions, list) else [actions]:
        action = open_json(one)
        if isinstance(action, Mapping):
            kind = next((str(_below(action, key)) for key in _KINDS if _below(action, key)), "")
            rest = {key: value for key, value in action.items() if str(key).lower() not in _KINDS}
            values = ", ".join(every_value(rest))
            yield ": ".join(part for part in (kind.removesuffix("Action"), values) if part)
        elif isinstance(action, str) and action.strip():
            yield action.strip()


def _below(value: Mapping[str, Any], wanted: str) -> Any:
    return next((one for key, one in value.items() if str(key).lower() == wanted), None)
