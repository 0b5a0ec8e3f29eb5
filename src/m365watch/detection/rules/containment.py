"""The words that rules have under `contain`: what stops an intruder."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

WORDS = frozenset(
    {
        "block_address",
        "block_external_user",
        "block_indicator",
        "disable_account",
        "disable_anonymous_link",
        "disable_application",
        "disable_flow",
        "remove_connector",
        "remove_credential",
        "remove_device",
        "remove_file",
        "remove_forwarding",
        "remove_group_member",
        "remove_inbox_rule",
        "remove_mail",
        "remove_mailbox_permission",
        "remove_oauth_grant",
        "remove_owner",
        "remove_role",
        "remove_sharing",
        "remove_site_admin",
        "remove_transport_rule",
        "remove_user_consent",
        "reset_password",
        "restore_audit",
        "restore_federation",
        "restore_files",
        "restore_mfa",
        "restore_policy",
        "restore_sharing_policy",
        "revoke_sessions",
        "scan_device",
        "see_who_signed_in",
    }
)
"""What `respond` has steps for."""
ATTEMPTS = "see_who_signed_in"
"""By that word a rule says that its records are attempts alone, which tell of nobody who got in."""

_OF_COMMAND = ("Operation", "Parameters.Name", "Parameters.Identity", "ObjectId", "m365.ok")
_OF_MAILBOX = ("Operation", "Parameters.Identity", "Parameters.Mailbox", "MailboxOwnerUPN", "ObjectId")
_OF_POLICY = ("Operation", "m365.target_name", "ModifiedProperties.DisplayName.new", "ObjectId")
SHARING_SWITCHES = (
    "ShareWithGuests",
    "ShareUsingAnonymousLinks",
    "IsPublic",
    "AllowGuestUser",
    "AllowFederatedUsers",
    "AllowTeamsConsumer",
    "AllowDomainList",
)
"""What a change of a sharing policy may be of."""
CONNECTOR_SETTINGS = (
    "Enabled",
    "SmartHosts",
    "RecipientDomains",
    "UseMXRecord",
    "SenderDomains",
    "SenderIPAddresses",
    "RequireTls",
    "TlsSettings",
    "TlsDomain",
    "TlsSenderCertificateName",
    "RestrictDomainsToIPAddresses",
    "RestrictDomainsToCertificate",
)
"""Of a mail connector, what decides where mail goes and whose is taken."""
RULE_ACTIONS = (
    "CopyToFolder",
    "DeleteMessage",
    "MarkAsRead",
    "MoveToFolder",
    "SoftDeleteMessage",
    "StopProcessingRules",
)
"""Of an inbox rule, what it does with mail besides sending it on."""
RULE_SENDS = ("ForwardAsAttachmentTo", "ForwardTo", "RedirectTo")
"""Of an inbox rule, to whom it sends mail on."""
RULE_WORDS = (
    "BodyContainsWords",
    "FromAddressContainsWords",
    "HeaderContainsWords",
    "RecipientAddressContainsWords",
    "SubjectContainsWords",
    "SubjectOrBodyContainsWords",
)
"""Of an inbox rule, the words that it looks for."""
_OF_STEPS: Mapping[str, tuple[str, ...]] = {
    "remove_inbox_rule": (
        *_OF_MAILBOX,
        "Parameters.Name",
        "OperationProperties.RuleName",
        "OperationProperties.RuleId",
        "OperationProperties.RuleOperation",
        "UserId",
        "m365.recipients",
        "m365.rule_actions",
        *(f"Parameters.{name}" for name in (*RULE_ACTIONS, *RULE_SENDS, *RULE_WORDS)),
        "m365.ok",
    ),
    "remove_forwarding": (
        *_OF_MAILBOX,
        "Parameters.ForwardingSmtpAddress",
        "Parameters.ForwardingAddress",
        "m365.ok",
    ),
    "remove_mailbox_permission": (
        *_OF_MAILBOX,
        "Parameters.AccessRights",
        "Parameters.User",
        "Parameters.Trustee",
        "Parameters.GrantSendOnBehalfTo",
        "Item.ParentFolder.MemberUpn",
        "Item.ParentFolder.Path",
    ),
    "remove_group_member": (
        "Operation",
        "ModifiedProperties.Group.ObjectID.new",
        "ModifiedProperties.Group.DisplayName.new",
    ),
    "block_indicator": ("Operation", "m365.indicator", "m365.indicator_link"),
    "disable_application": ("Operation",),
    "remove_credential": ("m365.gained.KeyDescription", "m365.target_name"),
    "remove_oauth_grant": (
        "Operation",
        "m365.scopes",
        "ModifiedProperties.AppRole.Id.new",
        "m365.made_grants",
        "m365.ok",
    ),
    "remove_owner": ("Operation", "ModifiedProperties.User.UPN.new"),
    "remove_role": (
        "Operation",
        "ModifiedProperties.Role.TemplateId.new",
        "ModifiedProperties.Role.DisplayName.new",
        "m365.target_group",
        "m365.target_name",
        "Parameters.Identity",
        "Parameters.Member",
        "Parameters.Role",
        "Parameters.Name",
        "ObjectId",
    ),
    "remove_transport_rule": _OF_COMMAND,
    "remove_connector": (*_OF_COMMAND, *(f"Parameters.{name}" for name in CONNECTOR_SETTINGS)),
    "disable_anonymous_link": (
        "ObjectId",
        "SourceFileName",
        "ItemType",
        "EventData",
        "TargetUserOrGroupName",
    ),
    "remove_sharing": ("ObjectId", "SourceFileName", "ItemType", "SiteUrl"),
    "remove_mail": ("Operation", "Subject"),
    "remove_file": (
        "Operation",
        "ObjectId",
        "SourceFileName",
        "FileData.FilePath",
        "FileData.FileName",
        "m365.injected_files",
    ),
    "restore_audit": (
        *_OF_MAILBOX,
        "Parameters.UnifiedAuditLogIngestionEnabled",
        "Parameters.AdminAuditLogEnabled",
        "Parameters.AuditEnabled",
        "Parameters.AuditBypassEnabled",
        "Parameters.AuditDisabled",
    ),
    "restore_federation": (
        "Operation",
        "ObjectId",
        "Parameters.DomainName",
        "ModifiedProperties.LiveType.new",
        "ModifiedProperties.LiveType.old",
        "m365.earlier_values",
    ),
    "restore_policy": (*_OF_POLICY, "Parameters.Identity", "Name", "m365.earlier_values"),
    "restore_sharing_policy": (
        "Operation",
        "ObjectId",
        *(f"ModifiedProperties.{name}.{side}" for name in SHARING_SWITCHES for side in ("new", "old")),
    ),
}
_OF_ADMINISTRATORS = frozenset(
    {
        "disable_application",
        "remove_connector",
        "remove_credential",
        "remove_forwarding",
        "remove_group_member",
        "remove_inbox_rule",
        "remove_mailbox_permission",
        "remove_owner",
        "remove_role",
        "remove_transport_rule",
        "restore_audit",
        "restore_federation",
        "restore_mfa",
        "restore_policy",
        "restore_sharing_policy",
    }
)
"""Words for what administrators do, those of a partner among them.

Not the words for accounts: most rules have these, for sign-ins and reading, and would keep the field for it.
"""
READS: Mapping[str, tuple[str, ...]] = {
    word: (*_OF_STEPS.get(word, ()), *(("m365.outside_actor",) if word in _OF_ADMINISTRATORS else ()))
    for word in sorted(_OF_ADMINISTRATORS | _OF_STEPS.keys())
}
"""By word, the fields of a record that its steps are made of: rules that have the word keep them."""


def why_unknown(word: str) -> str:
    """What is wrong with a word; empty where it is known, or is a sentence: a step of one's own."""
    if word in WORDS or " " in word.strip():
        return ""
    near = get_close_matches(word.lower(), WORDS, n=1)
    cure = (
        f"did you mean {near[0]}?" if near else "write a step of your own as a sentence: Call the help desk"
    )
    return f"{word} is no step that is known; {cure}"
