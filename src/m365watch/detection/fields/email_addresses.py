"""Mail addresses in what cmdlets and rules have for recipients, and which of them are outside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from m365watch.detection.fields.operations import normalise_operation

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_NAME = r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}"
_DOMAIN = r"[^\W_][\w.-]{0,252}[^\W_]"
_ADDRESS = re.compile(f"{_NAME}@{_DOMAIN}")
"""Of lower-case text; letters of any script, in which domains may be written."""
_QUOTED = r'"(?:[^"\\]|\\.){1,64}"'
_NETWORK = r"\[(?:ipv6:)?[0-9a-f.:]{2,45}\]"
_ODD = re.compile(f"{_QUOTED}@(?:{_DOMAIN}|{_NETWORK})|{_NAME}@{_NETWORK}")
"""A name in quotation marks, in which anything may stand, or an address of the network for a domain."""
_NEEDLESSLY_QUOTED = re.compile(f'^"({_NAME})"@')
_TEXT_MAX = 262_144
"""As long as all rules of a mailbox may be together. Source: Exchange's default quota for them."""
_ADDRESSES_MAX = 200

FORWARDING = (
    "ForwardTo",
    "ForwardAsAttachmentTo",
    "RedirectTo",
    "ForwardingSmtpAddress",
    "ForwardingAddress",
    "BlindCopyTo",
    "RedirectMessageTo",
    "CopyTo",
    "AddToRecipients",
    "JournalEmailAddress",
)
"""The parameters of rules, mailboxes, transport rules and journals that send mail on."""

_OUTLOOK_RULE = "updateinboxrules"
_SENDS_ON = re.compile(r'"actiontype"\s*:\s*"(?:forward|redirect)')
"""The shorter names of the same actions, in `RuleActions`."""
_FORWARDING_ACTIONS = (
    "forwardtorecipientsaction",
    "forwardasattachmenttorecipientsaction",
    "redirecttorecipientsaction",
)


def recipients(view: View) -> tuple[Value, ...]:
    """Every address that mail is sent on to, in lower case: of parameters and of Outlook's `ServerRule`.

    Those outside come first: an alert tells some, and they are why there is one.
    """
    found = sorted(_every_recipient(view), key=lambda one: not is_external(view, one))
    return tuple(found[:_ADDRESSES_MAX])


def external_recipients(view: View) -> tuple[Value, ...]:
    """Those recipients whose domain is not the organisation's own, however many of its own stand before."""
    return tuple([one for one in _every_recipient(view) if is_external(view, one)][:_ADDRESSES_MAX])


def _every_recipient(view: View) -> list[str]:
    texts = [
        value for name in FORWARDING for value in view.values(f"Parameters.{name}") if isinstance(value, str)
    ]
    return list(dict.fromkeys((*_in_texts(texts), *_of_server_rule(view))))


def external_target(view: View) -> tuple[Value, ...]:
    """Whom something was shared with, if it is somebody outside: an address, or a guest's name."""
    found = []
    for value in view.values("TargetUserOrGroupName"):
        if isinstance(value, str):
            found += [one for one in bare_addresses(value) if is_external(view, one)]
            if not found and "#ext#" in value.lower():
                found.append(value.lower())
    kinds = [str(kind).lower() for kind in view.values("TargetUserOrGroupType")]
    if not found and "guest" in kinds:
        found += [value.lower() for value in view.values("TargetUserOrGroupName") if isinstance(value, str)]
    return tuple(found[:_ADDRESSES_MAX])


def external_domain(view: View) -> tuple[Value, ...]:
    """The domains of those whom something was shared with outside, each once."""
    domains = (_domain_of(str(one)) for one in view.values("m365.external_target"))
    return tuple(dict.fromkeys(domain for domain in domains if domain))


def is_external(view: View, address: str) -> bool:
    """Whether an address is outside: of no accepted domain; where none is known, not of the actor's own."""
    domain = address.rpartition("@")[2].lower()
    if not domain:
        return False
    knowledge = view.knowledge
    if any(knowledge.is_own_domain(one, tenant=view.tenant) for one in (domain, _in_ascii(domain))):
        return False
    if domain.endswith(".onmicrosoft.com") and domain == _domain_of(view.first("OrganizationName")):
        return False
    if knowledge.accepted_domains or knowledge.tenant_domains.get(view.tenant):
        return True
    return domain not in {
        _domain_of(view.first(name)) for name in ("UserId", "MailboxOwnerUPN", "OrganizationName")
    }


def _in_ascii(domain: str) -> str:
    """A domain with letters of other scripts as the network has it, where it can be written so."""
    try:
        return domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def bare_addresses(text: str) -> list[str]:
    """The addresses in a text, in lower case: smtp:a@b, [SMTP:a@b], "A" <a@b>, "a b"@c, a_b#EXT#@c as a@b."""
    lowered = text[:_TEXT_MAX].lower()
    if "@" not in lowered and "#ext#" not in lowered:
        return []
    found = []
    if '"@' in lowered or "@[" in lowered:
        found = [_NEEDLESSLY_QUOTED.sub(r"\1@", one) for one in _ODD.findall(lowered)]
        lowered = _ODD.sub(";", lowered)
    for part in re.split(r"[;,\s<>\[\]\"]+", lowered):
        one = part.removeprefix("smtp:").removeprefix("mailto:")
        guest, is_guest, _ = one.partition("#ext#")
        if is_guest:
            # A guest's own address stands in its name, with an underscore for the @.
            name, _, domain = guest.rpartition("|")[2].rpartition("_")
            one = f"{name}@{domain}"
        match = _ADDRESS.search(one)
        if match:
            found.append(match.group())
    return found


def _in_texts(texts: Iterable[str]) -> list[str]:
    return [one for text in texts for one in bare_addresses(text)]


def _of_server_rule(view: View) -> Iterator[str]:
    """The recipients of the forwarding actions in the rule that Outlook saved, and not whose mail it is for.

    Which property says the action differs: any may. Where its actions name nobody, whoever it names counts.
    """
    from m365watch.detection.fields.record_view import every_value, named_values, open_json

    actions = ""
    if normalise_operation(view.first("Operation")) == _OUTLOOK_RULE:
        actions = " ".join(str(value) for value in view.values("OperationProperties.#values")).lower()
    rule = open_json(named_values(view.record.get("OperationProperties")).get("serverrule", ""))
    texts = list(every_value(rule))
    whole = f"{actions} {' '.join(texts)}".lower() if texts else actions
    if any(action in whole for action in _FORWARDING_ACTIONS) or _SENDS_ON.search(whole):
        yield from _in_texts(every_value(_actions_of(rule))) or _in_texts(texts)
        yield from _in_texts(
            str(value) for value in view.values("OperationProperties.RuleActions") if isinstance(value, str)
        )


def _actions_of(rule: Any) -> list[Any]:
    named = rule.items() if isinstance(rule, Mapping) else ()
    return [value for key, value in named if str(key).lower() == "actions"]


def _domain_of(name: str) -> str:
    return name.rpartition("@")[2].lower()
