"""The `m365.` fields as LINQ has to work them out; those that it cannot are named with the reason."""

from __future__ import annotations

from collections.abc import Callable, Collection

from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.linq.devo_schema import Columns
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.email_addresses import FORWARDING
from m365watch.detection.fields.field_catalog import INDICATORS
from m365watch.detection.fields.ip_addresses import ADDRESS_FIELDS
from m365watch.detection.rules.condition import (
    Comparison,
    ContainsOneOf,
    Exists,
    IsNull,
    Like,
    OneOf,
    Wildcard,
)
from m365watch.detection.rules.condition_operations import may_be_signin

NETWORK = (
    r"((?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:/[0-9]{1,2})?|[0-9A-Fa-f:]{0,40}::[0-9A-Fa-f:]{0,40}(?:/[0-9]{1,3})?)"
)
_OUTSIDE = r"(?:^|>)[^<]*(?:<|$)"
_SIGNS = '[",:]'
"""As many as a JSON text has values, or more."""
_EMPTY = ("", "[]", "{}", "null")
_SCOPES = (
    "ModifiedProperties.DelegatedPermissionGrant.Scope.new",
    "ModifiedProperties.OAuth2PermissionGrant.Scope.new",
    "ModifiedProperties.AppRole.Value.new",
)
_CONSENT = "ModifiedProperties.ConsentAction.Permissions.new"


def ask_gained(kind: str, name: str, comparison: Comparison, columns: Columns) -> str:
    """Whether a property has gained (or lost) what contains a word, or anything. Raises: Unsayable."""
    inner, outer = ("new", "old") if kind == "gained" else ("old", "new")
    if isinstance(comparison, Exists) and comparison.wanted:
        return _gained_anything(name, inner, outer, columns)
    words = _words_of(comparison)
    if not words:
        raise Unsayable(f"m365.{kind}.{name}: LINQ takes no list from another, to see what came new")
    now, before = (columns.text(f"ModifiedProperties.{name}.{side}") for side in (inner, outer))
    pattern = rf"(?i)((?:{'|'.join(map(linq.escaped, words))})[^,;\]\"}}]*)"
    columns.leave_out(
        f"a change of {name} that takes away more than it adds: what is there is counted before and after"
    )
    return _more_of(now, before, pattern, name, columns)


def _gained_anything(name: str, inner: str, outer: str, columns: Columns) -> str:
    head, _, key = name.rpartition(".")
    now, before = (columns.text(f"ModifiedProperties.{head or key}.{side}") for side in (inner, outer))
    if head:
        columns.leave_out(f"a change of {head} that takes away more than it adds")
        pattern = rf'(?i)("{linq.json_pattern((key,))}"\s*:\s*[^,;}}\]]*)'
        return _more_of(now, before, pattern, name, columns)
    columns.leave_out(f"a change that leaves {name} with fewer values, whatever it adds")
    later, earlier = linq.never_null(now), linq.never_null(before)
    counts = [
        f'(length({one}) - length(subsall({one}, {linq.pattern(_SIGNS)}, template(""))))'
        for one in (later, earlier)
    ]
    empty = linq.one_of(f"trim({later})", _EMPTY)
    return f"(not ({empty}) and {later} != {earlier} and {counts[0]} >= {counts[1]})"


def ask_gained_networks(name: str, comparison: Comparison, columns: Columns) -> str:
    """Whether a property has gained a network. Raises: Unsayable."""
    if not (isinstance(comparison, Exists) and comparison.wanted):
        raise Unsayable(
            f"m365.gained_networks.{name}: which networks came new LINQ cannot tell, only that some did"
        )
    now, before = (columns.text(f"ModifiedProperties.{name}.{side}") for side in ("new", "old"))
    columns.leave_out("a network that takes the place of another: they are counted before and after")
    return _more_of(now, before, NETWORK, f"{name}_networks", columns, replaced=False)


def ask_scopes(comparison: Comparison, columns: Columns) -> str:
    """Whether scopes that begin so, or are these, are granted now. Raises: Unsayable."""
    start = _starts_of(comparison)
    if not start:
        raise Unsayable(
            "m365.scopes has several values in one record, and is asked for more than how they begin"
        )
    text = columns.text(_CONSENT)
    before = linq.never_null(linq.peek(text, "(?s)^(.*?)=>"))
    after = linq.never_null(linq.first_of(linq.peek(text, "(?s)=>(.*)$"), text))
    others = ' + " " + '.join(linq.never_null(columns.text(name)) for name in _SCOPES)
    now = columns.make("granted", f'{after} + " " + {others}')
    earlier = columns.make("granted_before", before)
    columns.leave_out("a consent that takes away more such permissions than it gives")
    pattern = rf'(?i)(?:^|[\s,;:\["])((?:{start})[^\s,;\]"]*)'
    more = _more_of(now, earlier, pattern, "scopes", columns)
    # Where both sides are the same, all are what was consented to.
    every = [
        columns.make(f"{name}_words", _listing(name, r"(?i)Scope:\s*([^\],;]*)")) for name in (now, earlier)
    ]
    same = f"({every[0]} = {every[1]} and {linq.matches(now, pattern)})"
    return linq.any_of([more, same])


def _more_of(
    now: str, before: str, pattern: str, name: str, columns: Columns, *, replaced: bool = True
) -> str:
    """Whether the pattern is found more often now, or as often and not the same."""
    found, earlier = (
        columns.make(f"{name}_{side}_found", _listing(text, pattern))
        for side, text in (("now", now), ("before", before))
    )
    counts = [f'(length({one}) - length(replaceall({one}, ";", "")))' for one in (found, earlier)]
    grown = f"{counts[0]} > {counts[1]}"
    other = f"({counts[0]} = {counts[1]} and {found} != {earlier})"
    return f'({found} != ";" and {linq.any_of([grown, other]) if replaced else grown})'


def _listing(text: str, pattern: str) -> str:
    """All that the pattern's group finds, each between semicolons; one semicolon where it finds nothing."""
    bare = f'subsall(lower({linq.never_null(text)}), {linq.pattern("[<>]")}, template(""))'
    marked = f'subsall({bare}, {linq.pattern(pattern)}, template("<\\\\1>"))'
    return f'subsall({marked}, {linq.pattern(_OUTSIDE)}, template(";"))'


def _words_of(comparison: Comparison) -> tuple[str, ...]:
    match comparison:
        case Like((Wildcard.MANY, str() as word, Wildcard.MANY), _):
            return (word.lower(),)
        case ContainsOneOf(values, "anywhere"):
            return tuple(sorted(values))
    return ()


def _starts_of(comparison: Comparison) -> str:
    match comparison:
        case Like((str() as word, Wildcard.MANY), _):
            return linq.escaped(word.lower())
        case ContainsOneOf(values, "start"):
            return "|".join(linq.escaped(one) for one in sorted(values))
        case OneOf(values):
            return rf"(?:{'|'.join(linq.escaped(one) for one in sorted(values))})\b"
    return ""


AskTest = Callable[[str | None, Comparison, Columns], str]

_ADDRESS = r"(?i)^\s*\[?(?:::ffff:)?((?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f]{0,4}:[0-9a-f:]*)(?:[\]%:].*)?\s*$"
_NETWORK = r"(?i)^((?:[0-9]+\.){3}|(?:[0-9a-f]{1,4}:){3})"
_ORIGIN = r"(?i)^(?:[0-9a-f]{1,4}:){4}"
_LETTERS = "a-z0-9\u0080-\uffff"
_MAIL = rf"[{_LETTERS}.!#$%&'*+/=?^_`{{|}}~-]+@[{_LETTERS}][{_LETTERS}.-]*[{_LETTERS}]"
_BETWEEN = r"""[;,\s<>\[\]"\\(){}]+"""
_GUEST = r"([a-z0-9.!$%&'*+/=?^`~-]+)_([a-z0-9.-]+)#ext#@[a-z0-9.-]+;"
_GUESTS_OWN = r'template("\\1@\\2;")'
_CLIENT = r"(?i)^client=\s*([^;/]*?)\s*(?:[;/]|$)"
_WORD = r"[A-Za-z][A-Za-z0-9_.+-]{0,60}"
_DASHES = "[\u2010-\u2015\u2212]"
_NOTHING = 'template("")'
_DETAILS = "ExtendedProperties.additionalDetails"
"""JSON in a string; changes in the directory say there with what program they were made."""
_AGENT_IN_DETAILS = r'"User-Agent"\s*:\s*"([^"]+)"'
_CHAINS = {
    "session": ("DeviceProperties.SessionId", "AppAccessContext.AADSessionId", "SessionId", "UserSessionId"),
    "app": ("ClientAppId", "ApplicationId", "AppId", "AppAccessContext.ClientAppId"),
    "mailbox": ("MailboxOwnerUPN", "Parameters.Mailbox", "Parameters.Identity", "ObjectId", "UserId"),
    "user_agent": (
        "ExtendedProperties.UserAgent",
        "UserAgent",
        _DETAILS,
        "ClientInfoString",
        "ActorInfoString",
    ),
}
_OF_RULE = r"^(?:[^\\]*/)?([^/\\@]+)"
_OF_MAILBOX = r"^(?:.*[/\\])?([^/\\@]+)"
_NUMBER = r"(?i)^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_BROWSERS = (
    ("edge", r"(?i)\bEdg(?:e|A|iOS)?/"),
    ("opera", r"(?i)\bOPR/|\bOpera\b"),
    ("chrome", r"(?i)\bChrome/|\bCriOS/"),
    ("firefox", r"(?i)\bFirefox/|\bFxiOS/"),
    ("safari", r"(?i)\bSafari/"),
    ("internet explorer", r"(?i)\bTrident/|\bMSIE "),
)
_REASONS = {
    **dict.fromkeys(INDICATORS, "the lists of indicators are not at Devo"),
    "city": "which town an address is in is not told alike by different tables",
    "tor": "the lists of addresses are not at Devo",
    "vpn": "the lists of addresses are not at Devo",
    "hosting": "the lists of addresses are not at Devo",
    "place": "two places are compared, and LINQ sees one row at a time",
    "target_name": "the name is one of several in the list of targets",
}
_SENDS_ON = (
    "forwardtorecipientsaction",
    "forwardasattachmenttorecipientsaction",
    "redirecttorecipientsaction",
    r'"actiontype"\s*:\s*"(?:forward|redirect)',
)


def normal_operation(columns: Columns) -> str:
    """The column with the operation in the form in which names are compared."""
    bare = 'lower(trim(nvl(Operation, "")))'
    return columns.make("operation_compared", f'subsall({bare}, {linq.pattern(_DASHES)}, template("-"))')


def derive(columns: Columns, name: str) -> str:
    """The column with the derived field's one value. Raises: Unsayable."""
    if name == "operation":
        return normal_operation(columns)
    if name in _CHAINS:
        texts = [_text_of(columns, field) for field in _CHAINS[name]]
        chosen = linq.first_of(*texts)
        return columns.make(name, chosen if name == "user_agent" else f"lower({chosen})")
    found = _of_address(columns, name)
    if name == "user_agent_family":
        found = _family(derive(columns, "user_agent"))
    if name in _FIRST_OF:
        found = _FIRST_OF[name](columns)
    if found is not None:
        return columns.make(name, found)
    raise Unsayable(f"m365.{name}: {_REASONS.get(name, 'it has several values, and a column has one')}")


def _of_address(columns: Columns, name: str) -> str | None:
    """What is worked out of the address; None where it is something else."""
    if name == "ip":
        found = linq.first_of(*(linq.peek(columns.text(field), _ADDRESS) for field in ADDRESS_FIELDS))
        return f"lower({found})"
    if name == "origin":
        columns.leave_out("IPv6 addresses of one network in whose first half zeros are left out")
        return linq.first_of(linq.peek(derive(columns, "ip"), _ORIGIN, 0), derive(columns, "ip"))
    if name == "provider":
        return linq.first_of(derive(columns, "asn"), derive(columns, "network"))
    if name not in {"network", "country", "asn_name", "asn"}:
        return None
    address = derive(columns, "ip")
    return {
        "network": linq.first_of(linq.peek(address, _NETWORK), address),
        "country": f"nvl(countrycode(ip4({address})), countrycode(ip6({address})))",
        "asn_name": f"nvl(asorg(ip4({address})), asorg(ip6({address})))",
        "asn": f"str(nvl(asn(ip4({address})), asn(ip6({address}))))",
    }[name]


def _text_of(columns: Columns, field: str) -> str:
    """The field's text; of the details of a change, the program."""
    if field == _DETAILS:
        return linq.peek(columns.text(field), _AGENT_IN_DETAILS, 1)
    return linq.peek(columns.text(field), "(?s)^.+$", 0)


def ask_derived(field: str, comparison: Comparison, columns: Columns, *, ask_test: AskTest) -> str | None:
    """The test of a derived field that is no plain text; None where it is one. Raises: Unsayable."""
    if not field.startswith("m365."):
        return None
    name = field.removeprefix("m365.")
    if name in _FLAGS:
        return _flag(columns.make(name, _FLAGS[name](columns)), comparison)
    if name in ("recipients", "external_recipients", "external_target"):
        return _ask_addresses(name, comparison, columns)
    if name in _ASKED:
        return _ASKED[name](comparison, columns)
    kind, _, rest = name.partition(".")
    if kind in ("gained", "lost") and rest:
        return _ask_difference(field, comparison, columns, ask_test=ask_test)
    if kind == "gained_networks" and rest:
        return ask_gained_networks(rest, comparison, columns)
    return None


def _flag(column: str, comparison: Comparison) -> str:
    """A field that is always true or false."""
    match comparison:
        case Like((str() as word,), _):
            words = {word.lower()}
        case OneOf(values):
            words = set(values)
        case Exists(wanted):
            return "true" if wanted else "false"
        case _:
            raise Unsayable("a flag is compared with what is neither true nor false")
    if {"true", "false"} <= words:
        return "true"
    return f"{column} = {'true' if 'true' in words else 'false'}"


def _human(columns: Columns) -> str:
    kind = linq.never_null(columns.text("UserType"))
    return linq.negated(linq.one_of(f"lower({kind})", ("3", "4", "dcadmin", "system")))


def _ok(columns: Columns) -> str:
    """Whether it came about, as `m365.ok` has it: sign-ins by operation and error, the rest by status."""
    error, workload, status = (
        linq.never_null(columns.text(name)) for name in ("ErrorNumber", "Workload", "ResultStatus")
    )
    status = f"lower(trim({status}))"
    done = linq.one_of(status, ("true", "success", "succeeded"))
    partly = f'({status} = "partiallysucceeded" and lower({workload}) != "azureactivedirectory")'
    silent = linq.one_of(f"lower({workload})", ("sharepoint", "onedrive", "microsoftteams"))
    changed = f'({status} = "" or {silent} or {done} or {partly})'
    if not may_be_signin(columns.operations):
        return changed
    operation = normal_operation(columns)
    signed_in = linq.one_of(error, ("", "0"))
    return (
        f'({operation} != "userloginfailed" and '
        f'(({operation} = "userloggedin" and {signed_in}) or ({operation} != "userloggedin" and {changed})))'
    )


def _guest(columns: Columns) -> str:
    names = [linq.never_null(columns.text(name)) for name in ("UserId", "TargetUserOrGroupName")]
    targets = linq.never_null(columns.json("Target"))
    kind = linq.never_null(columns.text("TargetUserOrGroupType"))
    found = [f'weakhas({name}, "#ext#")' for name in (*names, targets)]
    return linq.any_of([*found, f'eqic({kind}, "guest")'])


def _people(columns: Columns, people: Collection[str], what: str) -> str:
    if not people:
        raise Unsayable(f"it is about {what}, and no list of them is set")
    names = [f"lower({linq.never_null(columns.text(name))})" for name in ("UserId", "MailboxOwnerUPN")]
    return linq.any_of([linq.one_of(name, people) for name in names])


_FLAGS: dict[str, Callable[[Columns], str]] = {
    "human": _human,
    "ok": _ok,
    "guest": _guest,
    "vip": lambda columns: _people(columns, columns.knowledge.vips, "important people"),
    "admin": lambda columns: _people(columns, columns.knowledge.admins, "administrators"),
}


def _ask_difference(field: str, comparison: Comparison, columns: Columns, *, ask_test: AskTest) -> str:
    """What a property has gained: one certain element that is in one value and not in the other."""
    kind, _, name = field.removeprefix("m365.").partition(".")
    is_certain = isinstance(comparison, OneOf) or (
        isinstance(comparison, Like) and not any(isinstance(one, Wildcard) for one in comparison.parts)
    )
    values = comparison.values if isinstance(comparison, OneOf) else ("",)
    if not is_certain or len(values) > 1:
        return ask_gained(kind, name, comparison, columns)
    inner, outer = ("new", "old") if kind == "gained" else ("old", "new")
    now, before = (
        ask_test(f"ModifiedProperties.{name}.{side}", comparison, columns) for side in (inner, outer)
    )
    return f"({now} and not ({before}))"


def _choice(words: Collection[str]) -> str:
    return "|".join(linq.json_pattern((one,)) for one in words)


def _ask_consent_types(comparison: Comparison, columns: Columns) -> str:
    """Whether a kind of grant stands behind the arrow and not before it: a little less than the rule asks."""
    match comparison:
        case Like((str() as word,), False):
            words: tuple[str, ...] = (word,)
        case OneOf(values):
            words = tuple(sorted(values))
        case _:
            raise Unsayable("m365.consent_types has several values, and is asked for more than words")
    kind = rf"(?i)ConsentType:\s*(?:{'|'.join(map(linq.escaped, words))})\b"
    text = columns.text("ModifiedProperties.ConsentAction.Permissions.new")
    before = linq.never_null(linq.peek(text, "(?s)^(.*?)=>"))
    after = linq.never_null(linq.first_of(linq.peek(text, "(?s)=>(.*)$"), text))
    return f"({linq.matches(after, kind)} and {linq.negated(linq.matches(before, kind))})"


_ASKED: dict[str, Callable[[Comparison, Columns], str]] = {
    "consent_types": _ask_consent_types,
    "scopes": ask_scopes,
}
"""Fields with several values of which words are asked."""


def _ask_addresses(name: str, comparison: Comparison, columns: Columns) -> str:
    """Whether there is an address, of somebody outside where that is asked."""
    if not isinstance(comparison, Exists | IsNull):
        raise Unsayable(f"m365.{name} has several values in one record, and a column has one")
    text = _shared_with(columns) if name == "external_target" else _sent_on_to(columns)
    if name != "recipients":
        text = _without_own(text, name, columns)
    found = linq.matches(text, f"(?i){_MAIL}")
    if name == "external_target":
        found = linq.any_of([found, _nameless_guest(columns)])
    wanted = isinstance(comparison, Exists) and comparison.wanted
    return found if wanted else linq.negated(found)


def _sent_on_to(columns: Columns) -> str:
    """All that may hold an address to which mail is sent on, as one text."""
    texts = [linq.never_null(columns.text(f"Parameters.{name}")) for name in FORWARDING]
    rule, actions = (
        linq.never_null(columns.text(f"OperationProperties.{name}")) for name in ("ServerRule", "RuleActions")
    )
    outlook = columns.make("outlook_rule", f'{rule} + ";" + {actions}')
    # Which property says the action differs.
    every = linq.never_null(columns.text("OperationProperties"))
    said = columns.make("outlook_said", f'{outlook} + ";" + {every}')
    sends = linq.matches(said, f"(?i)(?:{'|'.join(_SENDS_ON)})")
    whole = ' + ";" + '.join([*texts, f'ifthenelse({sends}, {outlook}, "")'])
    return columns.make("sent_on_to", whole)


def _shared_with(columns: Columns) -> str:
    return columns.make("shared_with", linq.never_null(columns.text("TargetUserOrGroupName")))


def _nameless_guest(columns: Columns) -> str:
    """A guest without an address, who is told by the kind alone."""
    kind = linq.never_null(columns.text("TargetUserOrGroupType"))
    name = linq.never_null(columns.text("TargetUserOrGroupName"))
    return f'(weakhas({name}, "#ext#") or (eqic({kind}, "guest") and {name} != "" and not ({name} -> "@")))'


def _without_own(text: str, name: str, columns: Columns) -> str:
    """The text without addresses of the organisation's own, each address ended by a semicolon first."""
    parts = f'subsall(lower({text}), {linq.pattern(_BETWEEN)}, template(";")) + ";"'
    whole = columns.make(f"{name}_parts", parts)
    found = columns.make(f"{name}_named", f"subsall({whole}, {linq.pattern(_GUEST)}, {_GUESTS_OWN})")
    domains = columns.knowledge.accepted_domains.union(*columns.knowledge.tenant_domains.values())
    if domains:
        own = "|".join(linq.escaped(one) for one in sorted(domains))
        inside = linq.pattern(rf"@(?:[a-z0-9-]+\.)*(?:{own});")
        found = columns.make(f"{name}_foreign", f'subsall({found}, {inside}, template(";"))')
    organisation = _domain("OrganizationName", columns)
    users = [] if domains else [_domain(one, columns) for one in ("UserId", "MailboxOwnerUPN")]
    for place, domain in enumerate((organisation, *users)):
        found = columns.make(f"{name}_foreign_{place}", f'replaceall({found}, "@" + {domain} + ";", ";")')
    return found


def _first_address(name: str) -> Callable[[Columns], str]:
    def made(columns: Columns) -> str:
        text = _shared_with(columns) if name == "external_target" else _sent_on_to(columns)
        parted = text if name == "recipients" else _without_own(text, name, columns)
        return linq.peek(f"lower({parted})", _MAIL, 0)

    return made


def _mailbox_alias(columns: Columns) -> str:
    """The name before the @ of the mailbox that a rule or a setting is of."""
    operation = normal_operation(columns)
    texts = {
        name: columns.text(name)
        for name in ("Parameters.Mailbox", "Parameters.Identity", "ObjectId", "MailboxOwnerUPN", "UserId")
    }
    of_rule = [linq.peek(texts[name], _OF_RULE) for name in ("Parameters.Mailbox", "ObjectId")]
    of_mailbox = [linq.peek(texts[name], _OF_MAILBOX) for name in ("Parameters.Identity", "ObjectId")]
    owner, actor = (linq.peek(texts[name], _OF_MAILBOX) for name in ("MailboxOwnerUPN", "UserId"))
    kinds = (
        ("inboxrule", linq.first_of(*map(_unless_number, of_rule), actor)),
        ("-mailbox", linq.first_of(*map(_unless_number, of_mailbox), actor)),
        ("transportrule", actor),
    )
    found = linq.first_of(owner, actor)
    for ending, alias in reversed(kinds):
        found = f"ifthenelse(endswith({operation}, {linq.quoted(ending)}), {alias}, {found})"
    return f"lower({found})"


def _unless_number(alias: str) -> str:
    """Some mailboxes are named by a number, which no other name of theirs tells."""
    return linq.peek(f'ifthenelse({linq.matches(linq.never_null(alias), _NUMBER)}, "", {alias})', "^.+$", 0)


_FIRST_OF: dict[str, Callable[[Columns], str]] = {
    "recipients": _first_address("recipients"),
    "external_recipients": _first_address("external_recipients"),
    "external_target": _first_address("external_target"),
    "external_domain": lambda columns: linq.peek(derive(columns, "external_target"), r"@(.+)$"),
    "mailbox_alias": _mailbox_alias,
}
"""Fields of which a column has the first value where the record has several."""
WEAKER = {
    **{
        f"m365.{name}": "of several addresses in one record only the first counts"
        for name in ("recipients", "external_recipients", "external_target", "external_domain")
    },
    "m365.mailbox_alias": "mailboxes of one name in two domains are one to it",
}
"""What is left out where a group is made of such a column, or its values are counted."""


def _domain(field: str, columns: Columns) -> str:
    """What follows the last @ of a name, or a word that is in no address."""
    text = linq.peek(f"lower({columns.text(field)})", r"([^@;\s]+)$")
    return columns.make(f"{field}_domain", f'nvl({text}, "(none)")')


def _family(agent: str) -> str:
    """The browser's name, or the first word of what is none."""
    text = linq.never_null(agent)
    client = f"lower({linq.peek(agent, _CLIENT)})"
    word = f"lower({linq.peek(agent, _WORD, 0)})"
    found = linq.first_of(client, word)
    for name, expression in reversed(_BROWSERS):
        found = f"ifthenelse({linq.matches(text, expression)}, {linq.quoted(name)}, {found})"
    return found
