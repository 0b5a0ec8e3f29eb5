"""What somebody without sight of contents is shown: who did what, when and from where, and no more.

Of a record's own text those values stay that are named below, and those that are nothing but an address, a
number, an instant or an id; every other text says that it is withheld, under whatever name it stands, and so
does an empty one, but for the settings named below. It is done in the query, before anything is compared
with it, so that no search tells what is in a text either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NewType

from msgspec import structs

from m365watch.board.query.query_context import View
from m365watch.board.widgets.widget_types import RecordLine
from m365watch.detection.alerts.alert import Alert, clean_text
from m365watch.detection.alerts.alert_builder import TITLE_MAX
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.rules.rule import Rule, fill_placeholders, list_placeholders
from m365watch.lake.audit_trail_table import Deed

SHOWN_NAMES = (
    *("Operation", "Workload", "CreationTime", "OrganizationId", "OrganizationName", "TenantName"),
    *("UserId", "UserKey", "ActorUserId", "MailboxOwnerUPN", "SendAsUserSmtp", "TargetUserOrGroupName"),
    *("TargetUserOrGroupType", "P1Sender", "P2Sender", "Sender", "SenderIp", "Recipient", "ClientIP"),
    *("ClientIPAddress", "ActorIpAddress", "UserIp", "ResultStatus", "LogonError", "ErrorNumber"),
    *("AppId", "ApplicationId", "ClientAppId", "ApplicationDisplayName", "Application", "AppHost"),
    *("ClientInfoString", "ClientApplication", "ClientProcessName", "ClientVersion", "UserAgent"),
    *("BrowserName", "BrowserVersion", "Platform", "OriginatingServer", "SessionId", "LogonType", "ItemType"),
    *("EventSource", "SourceFileExtension", "AuthenticationMethod", "AuthenticationType", "AuthType"),
    *("RequestType", "DeliveryAction", "Directionality", "Verdict", "PolicyAction", "DetectionMethod"),
    *("DetectionType", "Severity", "AlertSeverity", "AlertType", "Category", "AlertCategory", "Status"),
    *("PolicyName", "RuleName", "PolicyId", "RuleId", "CommunicationType", "Source", "SourceWorkload"),
    *("OldRole", "NewRole", "Scope", "Permission", "ResourceId", "CorrelationId", "TeamGuid", "LabelId"),
)
"""Fields whose values stay, whatever they are.

Neither `Id`, under which Copilot names files, nor `AppName`, which users of Power BI choose.
"""
SHOWN_SETTINGS = (
    *("UserAgent", "RequestType", "OS", "BrowserType", "SessionId", "IsCompliant", "IsCompliantAndManaged"),
    *("TrustType", "MailAccessType", "IsThrottled", "ForwardTo", "RedirectTo", "ForwardAsAttachmentTo"),
    *("ForwardingSmtpAddress", "ForwardingAddress", "DeliverToMailboxAndForward", "DeleteMessage"),
    *("BlindCopyTo", "CopyTo", "RedirectMessageTo", "AddToRecipients", "JournalEmailAddress"),
    *("MarkAsRead", "StopProcessingRules", "AccessRights", "User", "Trustee", "Identity.Mailbox"),
    *("AutoForwardEnabled", "AutoForwardingMode", "AuditEnabled", "AuditBypassEnabled"),
    "UnifiedAuditLogIngestionEnabled",
    *("Role.DisplayName", "Role.ObjectID", "Role.TemplateId", "Role.WellKnownObjectName"),
    *(
        "User.UPN",
        "Actor.ServicePrincipalNames",
        "ConsentAction.Permissions",
        "ConsentContext.IsAdminConsent",
        "ConsentContext.OnBehalfOfAll",
        "DelegatedPermissionGrant.Scope",
        "DelegatedPermissionGrant.ConsentType",
        "OAuth2PermissionGrant.Scope",
        "AppRole.Value",
    ),
)
"""The same where a list has names with values."""
SHOWN_ENTITIES = frozenset(
    {"user", "actor", "target", "grantee", "guest", "recipient", "sender", "address", "app", "mailbox"}
    | {"site", "session", "tenant", "domain"}
)
"""Kinds of what an alert is about that are no contents."""
_WITHHELD = "What its records say is withheld from you"
WITHHELD = f"{_WITHHELD}; the rule says below what it looks for."

EMPTIED = "withheld"
NOT_LOADED = "An alert whose rule is not loaded"
_NAMES_OF_ALERTS = frozenset({"Name", "AlertDisplayName", "Operation"})
"""How Microsoft has called an alert is no content: a headline of nothing else is shown as it was."""
NO_PLAN = "Its steps name what is withheld from you: ask somebody who may see it."

_TEXT = r'(?:[^"\\]|\\.)*'
_GUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_SAFE = (
    rf"(?:[A-Za-z0-9._%+#\-]+@[A-Za-z0-9.\-]+|{_GUID}"
    r"|\[?(?:[0-9A-Fa-f]{0,3}[0-9][0-9A-Fa-f]{0,3})?:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f.:]{0,40}(?:\](?::[0-9]{1,5})?)?"
    r"|[0-9A-Fa-f]{16,45}|[0-9.:]{0,45}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.Z+\-]{4,25}|[+\-]?[0-9.,]{1,20}|[Tt]rue|[Ff]alse)"
)
"""A value that is an address of mail or of a machine, an id, an instant, a number or a switch, and no more.

A short word of the letters A to F is none of them: it may be a subject.
"""
_EXCHANGE_ID = "(?:[LR]gAAAA|AAMk|AAQk|AQMk)[A-Za-z0-9+/=_\\-]{20,}"
"""The id of a mail or a folder, which Exchange makes."""


def _names(names: tuple[str, ...]) -> str:
    return "|".join(one.replace(".", r"\.") for one in names)


_CONTENT_NAMES = (
    *("Subject", "Title", "Description", "Comment", "Comments", "Keywords", "Body", "Query", "QueryText"),
    *("SearchText", "PromptText", "File", "Files", "FileName", "FileNames", "Path", "FilePathUrl"),
    *("RelativeUrl", "UrlPath", "Attachments", "DetectedValues", "ItemName", "ItemNames", "MessageName"),
    *("AppName", "ArtifactName", "DatasetName", "ReportName", "DashboardName", "WorkspaceName"),
    *("WorkSpaceName", "ListName", "FormName", "ChannelName", "TeamName", "ChatName", "GroupName"),
    *("CaseName", "ExportName", "AddOnName", "FolderName", "ObjectName", "Object1Name", "Object2Name"),
    *("ObjectDisplayName", "TabName", "TableName", "JobName", "ShareName", "PipelineName", "DocumentName"),
    *("AttachmentName", "EntityName"),
)
"""Fields of which the value is always contents, also where it looks like an address, a number or an id.

So are those whose names end like this, as `SourceFileName` does.
"""
_PAIRED = ("Name", "Value", "Values", "NewValue", "OldValue")
"""The same, but not as the end of a longer name: of a pair it is not known what it names."""


def _either_case(names: tuple[str, ...]) -> str:
    return "|".join(re.sub("[A-Z]", lambda one: f"[{one[0]}{one[0].lower()}]", each) for each in names)


_CONTENTS = rf"(?:[A-Za-z0-9_]*(?:{_either_case(_CONTENT_NAMES)})|{_either_case(_PAIRED)})"


def _inside(depth: int) -> str:
    """What may stand between two brackets that belong together, so many of them deep."""
    inner = rf"|[\[{{]{_inside(depth - 1)}[\]}}]" if depth else ""
    return rf'(?:[^"\[\]{{}}]|"{_TEXT}"{inner})*'


_DEEP = 6
"""How deep lists of contents are read; Microsoft's are two deep."""
# The quote is kept twice: a list gives way to an empty text, which says like all others that it is withheld.
_EMPTIED_LIST = rf'((")(?:{_CONTENTS})"\s*:\s*)[\[{{]{_inside(_DEEP)}[\]}}]'
_SHOWN_SETTING = rf'"Name"\s*:\s*"(?:{_names(SHOWN_SETTINGS)})"\s*,\s*"(?:New)?Value"\s*:\s*'
_KNOWN = (
    # Whose mailbox or account it is, as far as it is no name of a rule.
    rf'"Name"\s*:\s*"Identity"\s*,\s*"Value"\s*:\s*"{_SAFE}"|'
    rf'{_SHOWN_SETTING}(?:"{_TEXT}"|null)'
    rf'(?:\s*,\s*"OldValue"\s*:\s*"{_TEXT}")?'
    rf'|"(?:{_names(SHOWN_NAMES)})"\s*:\s*"{_TEXT}"|"(?:New|Old)?Value"\s*:\s*"(?:\[\]|{_GUID})"'
)
_SETTING = r'"Name"\s*:\s*"[A-Za-z0-9_.]{1,60}"\s*,\s*"(?:New|Old)?Value"'
_LOOKS_SAFE = (
    rf'"[^"\\]*"\s*:\s*"{_SAFE}"|"Id"\s*:\s*"{_EXCHANGE_ID}"'
    # The name of what is no text, and an address or the like in a list.
    rf'|"{_TEXT}"\s*:\s*[^"\s]|"{_SAFE}"'
)
_PARTS = (
    _EMPTIED_LIST,
    rf"({_KNOWN})",
    # A setting of which the name stays, and what is always contents.
    rf'((?:{_SETTING}|"{_CONTENTS}")\s*:\s*"){_TEXT}(")',
    rf"({_LOOKS_SAFE})",
    # Any other field, whose name stays as well, and a text in a list.
    rf'((?:"{_TEXT}"\s*:\s*)?"){_TEXT}(")',
)
"""The first that fits is taken: what is always contents is emptied before it is asked what it looks like."""
_PATTERN = "|".join(_PARTS)
_REWRITTEN = r"\1\2\2\3\4\5\6\7\8"
# Before anything is emptied, so that this tells of no other text whether there is one.
_NOTHING_SET = f"regexp_replace(raw, '({_SHOWN_SETTING})\"\"', '\\1null', 'g')"
_EMPTIED_RAW = f"regexp_replace({_NOTHING_SET}, '{_PATTERN}', '{_REWRITTEN}', 'g')"
_EMPTY_VALUE = r'([:\[,]\s*)""'
"""A text with nothing in it: what was emptied must not read as if the record had said nothing."""
_SAID_RAW = f"""regexp_replace({_EMPTIED_RAW}, '{_EMPTY_VALUE}', '\\1"{EMPTIED}"', 'g')"""
_RAW = f"CASE WHEN json_valid(raw) THEN {_SAID_RAW} ELSE '' END"
_OBJECT = (
    f"CASE WHEN regexp_full_match(object, '{_SAFE}') THEN object ELSE coalesce(nullif("
    f"regexp_extract(object, '^https?://[^/]+/(?:(?:sites|teams|personal)/[^/]+)?'), ''), '{EMPTIED}') END"
)
_RECIPIENT = f"CASE WHEN regexp_full_match(recipient, '{_SAFE}') THEN recipient ELSE '{EMPTIED}' END"
_FOLDER = f"CASE WHEN folder = '' THEN '' ELSE '{EMPTIED}' END"
_INSTEAD = {"raw": _RAW, "object": _OBJECT, "folder": _FOLDER, "recipient": _RECIPIENT}
"""SQL by column of the facts."""


def columns_for(view: View, columns: Iterable[str]) -> list[str]:
    """The columns of the facts, as whoever looks may read them."""
    if view.access.sees_contents:
        return list(columns)
    return [f"{_INSTEAD[one]} AS {one}" if one in _INSTEAD else one for one in columns]


def told_lines(view: View, lines: Sequence[RecordLine]) -> list[RecordLine]:
    """The lines of a record; those that were emptied say so."""
    if view.access.sees_contents:
        return list(lines)
    following = [*(one.depth for one in lines[1:]), 0]
    return [
        one if one.value not in ("", EMPTIED) or depth > one.depth else replace(one, value=EMPTIED, url="")
        for one, depth in zip(lines, following, strict=True)
    ]


SeenAlert = NewType("SeenAlert", KeptAlert)
"""An alert as whoever looks may read it: only such ones leave the sources."""


def alert_for(view: View, kept: KeptAlert, rules: Mapping[str, Rule]) -> SeenAlert:
    """The alert, as whoever looks may read it; `rules` by their ids, which say what its texts repeat."""
    if view.access.sees_contents:
        return SeenAlert(kept)
    return SeenAlert(replace(kept, alert=_without_contents(kept.alert, rules.get(kept.alert.rule_id))))


def deed_for(view: View, deed: Deed) -> Deed:
    """The line of the trail, as whoever looks may read it: a filter or SQL of others may name contents."""
    if view.access.sees_contents or deed.name == view.access.name or not deed.query:
        return deed
    return structs.replace(deed, query=EMPTIED)


def _without_contents(alert: Alert, rule: Rule | None) -> Alert:
    entities = tuple((kind, value) for kind, value in alert.entities if kind in SHOWN_ENTITIES)
    bare = replace(alert, entities=entities, explanation=WITHHELD, group=(), notes=())
    if rule is None:  # nobody knows what of its texts were values of records
        hidden = (EMPTIED,) if alert.check else ()
        return replace(bare, title=NOT_LOADED, explanation=f"{_WITHHELD}.", check=hidden)
    values = dict.fromkeys(rule.placeholders, EMPTIED)
    for kind, field in rule.extension.entity.items():
        if kind in SHOWN_ENTITIES:
            values[kind] = values[field] = ", ".join(alert.named(kind))
    check = tuple(fill_placeholders(one, values) for one in rule.extension.check)
    return replace(bare, title=_title_of(alert, rule, values), check=check)


def _title_of(alert: Alert, rule: Rule, values: Mapping[str, str]) -> str:
    """Made anew, as the alert's own may be by a headline of before, which said more."""
    headline = rule.extension.headline
    named = list_placeholders([headline])
    if named and _NAMES_OF_ALERTS.issuperset(named):
        return alert.title
    made = clean_text(fill_placeholders(headline, values))[:TITLE_MAX]
    return made if made and EMPTIED not in made else rule.title
