"""What records of the most frequent operations never tell, so that nothing is looked up of them for it.

A correlation keeps of all that it joins what its steps are made of: the parameters of a cmdlet of a sign-in,
the changed properties of a file that was fetched. Three of ten records match something, most of them these.

Source: published records: 738 of sign-ins, whose ModifiedProperties is empty, 106 of files, 335 of mail read.
"""

from __future__ import annotations

from m365watch.detection.engine.rule_matcher import operations_of
from m365watch.detection.fields.record_view import MAPS
from m365watch.detection.rules.condition import Condition

_RULE = "OperationProperties.Rule"
"""Those of its properties that tell of a mail rule."""
_NO_CHANGE = frozenset({"Parameters", "ModifiedProperties", _RULE})
_NO_DIRECTORY = _NO_CHANGE | {"Target", "ActorContextId", "ExternalAccess"}
_LACKING = {
    "userloggedin": _NO_CHANGE,
    "userloginfailed": _NO_CHANGE,
    "mailitemsaccessed": _NO_CHANGE,
    "fileaccessed": _NO_DIRECTORY,
    "filedeleted": _NO_DIRECTORY,
    "filedeletedfirststagerecyclebin": _NO_DIRECTORY,
    "filedeletedsecondstagerecyclebin": _NO_DIRECTORY,
    "filedownloaded": _NO_DIRECTORY,
    "filerecycled": _NO_DIRECTORY,
    "filesyncdownloadedfull": _NO_DIRECTORY,
    "fileuploaded": _NO_DIRECTORY,
    "fileversionsalldeleted": _NO_DIRECTORY,
    "searchqueryperformed": _NO_DIRECTORY,
    "send": _NO_CHANGE,
    "sendas": _NO_CHANGE,
    "sendonbehalf": _NO_CHANGE,
}
"""By operation in its normal form, the top fields and properties that its records lack, or have empty."""
_MADE_OF = {
    "m365.consent_types": {"ModifiedProperties"},
    "m365.external_recipients": {"Parameters", _RULE},
    "m365.made_grants": {"ModifiedProperties"},
    "m365.outside_actor": {"ActorContextId", "ExternalAccess"},
    "m365.recipients": {"Parameters", _RULE},
    "m365.rule_actions": {_RULE},
    "m365.scopes": {"ModifiedProperties"},
    "m365.target_group": {"Target"},
    # Without a target it is ObjectId, which stands for itself.
    "m365.target_name": {"Target"},
}
"""By derived field, the top fields without all of which it has nothing to say."""


def told_by(condition: Condition, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the fields that a record which fulfils the condition may have."""
    operations = operations_of(condition)
    if not operations:
        return names
    lacking = frozenset.intersection(*(_LACKING.get(one, frozenset()) for one in operations))
    return tuple(name for name in names if not lacking or not _made_of(name) <= lacking)


def _made_of(name: str) -> frozenset[str] | set[str]:
    """The top fields of which a record has to have one; the field itself, where it is one of them."""
    if name.startswith(_RULE):
        return {_RULE}
    top = name.partition(".")[0]
    return _MADE_OF.get(name, {top if top in MAPS else name})
