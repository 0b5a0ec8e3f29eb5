"""What a step will do in the tenant as it is: read first, then one deed for each thing that changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from m365watch.common.errors import BadAnswer, CollectorError, ListTooLong, NeedsOperator, PermissionMissing
from m365watch.response.execution.graph_permissions import READS_PEOPLE
from m365watch.response.journal import ALL_OF_LIST
from m365watch.response.plans.principal_ownership import called, why_spared
from m365watch.response.steps.command_escaping import UnsafeValue, segment
from m365watch.response.steps.step import GLOBAL_ADMINISTRATOR, Act, GraphCall, Operation, Remove, Revise

Document = Mapping[str, object]

_PLACE = re.compile(r"\{(subject|found)\.([A-Za-z.]+)\}")
_IN_EITHER_CASE = ("email", "emailAddress.address", "userPrincipalName")
_NO_LICENCE = "AadPremiumLicenseRequired"
"""Graph's word to a tenant in which no role can be given for a time."""
_FOLDERS = ("copyToFolder", "moveToFolder")
"""Where the names of folders stand; their ids, which are not the same in either case, do below `actions`."""
LISTED_MAX = 10_000
"""Things that one list may have: of a longer one nothing is done, for the rest would be told as done."""
FOUND_MAX = 1_000
"""Things of it that a step may do something to."""
BY_POWERSHELL = "use the PowerShell that the plan has for this step"


class Graph(Protocol):
    """Graph of the tenant, as far as a response needs it."""

    async def ask(self, call: GraphCall) -> Document:
        """The answer; empty for one without a body.

        Raises: RetryLater, NeedsOperator: nothing was changed, as far as is known.
        """
        ...

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        """What the list has, over its pages. Raises: ListTooLong: it has more than `most`; and as `ask`."""
        ...


@dataclass(frozen=True, slots=True)
class Deed:
    """One change, and what takes it back."""

    label: str
    """What it is done to, where the step's title does not say it."""
    call: GraphCall
    undo: GraphCall | None = None
    doubt: str = ""
    """Why what takes it back would leave more than there was; empty where it would not."""
    about: str = ""
    """What is changed, in the same words for whichever name an alert has for it."""
    is_meant: bool = True
    """Whether the plan names it; False: a person has to pick it."""
    locks_out: str = ""
    """The object id of an account that may administer the tenant no more after it; empty where none is."""
    by_group: str = ""
    """That of the group through which it may, where the deed takes it out of one."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What an operation comes to in the tenant as it is."""

    deeds: tuple[Deed, ...] = ()
    """None: it is so already, or nothing is there."""
    is_missing: bool = False
    """Whether nothing is there of the name that is wanted: it went, or is called otherwise by now."""
    is_unseen: bool = False
    """Whether nothing is there of a list of which nothing is wanted by its name: Graph may not list it."""
    others: tuple[str, ...] = ()
    """What is there in its place."""
    lacking: int = 0
    """How many more of that name there were than are there."""
    is_so: GraphCall | None = None
    """The call that was not needed, for it is so already."""
    about: str = ""
    """As that of its deeds, also where there is none."""
    application: str = ""
    """What the tenant calls the application that it is done to."""
    spared: str = ""
    """Why nothing is done to it; empty where it may be done."""


async def look(graph: Graph, operation: Operation, *, own: Collection[str] = ()) -> Looked:
    """What carries an operation out; `own` are ids of applications that belong to this product.

    Raises: RetryLater, NeedsOperator: Graph could not be asked.
    """
    match operation:
        case Act(call):
            return Looked((Deed("", call),))
        case Revise():
            return await _look_at_properties(graph, operation, own)
        case Remove():
            return await _look_at_list(graph, operation, own)


async def _identify(graph: Graph, path: str, subject: Document) -> Document:
    return await graph.ask(GraphCall("GET", _filled(path, subject, {}))) if path else {}


async def _look_at_properties(graph: Graph, operation: Revise, own: Collection[str]) -> Looked:
    subject = await graph.ask(GraphCall("GET", operation.subject)) if operation.subject else {}
    application = await _identify(graph, operation.identified, subject)
    if spared := why_spared(application, own):
        return Looked(spared=spared)
    path = _filled(operation.path, subject, {})
    current = await graph.ask(GraphCall("GET", f"{path}?$select=id,{','.join(operation.properties)}"))
    before = {name: current.get(name) for name in operation.properties}
    change = GraphCall("PATCH", path, operation.properties)
    about = f"{_text(current.get('id')) or path} {', '.join(operation.properties)}".casefold()
    if before == dict(operation.properties):
        return Looked(is_so=change, about=about)
    account = (_text(current.get("id")) or _last_of(path)) if operation.locks_out else ""
    name = called(application)
    undo = GraphCall("PATCH", path, before)
    deed = Deed(name or _last_of(path), change, undo, about=about, locks_out=account)
    return Looked((deed,), application=name)


def _last_of(path: str) -> str:
    """What a path of Graph is of, in words: the account of /users/ann%40contoso.example."""
    return unquote(path.rpartition("/")[2])


async def _look_at_list(graph: Graph, operation: Remove, own: Collection[str]) -> Looked:
    subject = await graph.ask(GraphCall("GET", operation.subject)) if operation.subject else {}
    _check_name(operation, subject)
    application = await _identify(graph, operation.identified, subject)
    if spared := why_spared(application, own, microsoft_too=operation.microsoft_too):
        return Looked(spared=spared)
    wanted = (*operation.wanted, *_wanted_of(operation, subject))
    path = _filled(operation.listed, subject, {})
    owner = application or await _told_if_it_may_be(graph, operation.owner)
    about = _about(path, owner, wanted) + (ALL_OF_LIST if operation.takes_all else "")
    listed = [
        one
        for one in await graph.list(path, most=LISTED_MAX)
        if not operation.kind or one.get("@odata.type") == operation.kind
    ]
    if operation.takes_all and not listed:
        return Looked(is_so=GraphCall("DELETE", path), about=about, application=called(application))
    found = [one for one in listed if _is_wanted(operation, wanted, one)] if wanted else listed
    if wanted and not found:
        _check_named(operation, listed)
        labels = tuple(_label(operation, one) for one in listed)
        return Looked(
            is_missing=operation.is_named, others=labels, about=about, application=called(application)
        )
    if len(found) > FOUND_MAX:
        raise ListTooLong(f"more than {FOUND_MAX:,} would go, and nothing was done", fix=BY_POWERSHELL)
    found = [await _with_folders(graph, operation, one) for one in found]
    meant = found if operation.takes_all else _meant(operation, wanted, found)
    doubts = await _doubts(graph, operation, subject, found)
    deeds = (
        Deed(
            _label(operation, one),
            _removal(operation, subject, one),
            _restoring(operation, subject, one),
            doubt=doubts.get(_text(one.get("id")), doubts.get("", "")),
            about=about,
            is_meant=one in meant and not _is_of_others_too(wanted, one),
            locks_out=_locked_out(operation, subject, one),
            by_group=_text(one.get("id")) if operation.leaves_group else "",
        )
        for one in found
    )
    lacking = max(0, len(operation.agrees) - len(found))
    return Looked(
        tuple(deeds),
        is_unseen=not found,
        lacking=lacking,
        about=about,
        application=called(application),
    )


def _about(path: str, owner: Document, wanted: Iterable[tuple[str, str]]) -> str:
    """The list and what of it is wanted: whose list it is by the object's id, where that was read."""
    found = _text(owner.get("id"))
    where = f"{found}/{path.rpartition('/')[2]}" if found else path
    return f"{where.casefold()} {', '.join(f'{name} {value}' for name, value in sorted(wanted))}".rstrip()


def _check_name(operation: Remove, subject: Document) -> None:
    """Raises: NeedsOperator: what was read first is not what is meant."""
    name = _text(subject.get("name"))
    if operation.subject_name and name.casefold() != operation.subject_name.casefold():
        raise NeedsOperator(
            f'what is at that address is called "{name}", and the record tells of "{operation.subject_name}"',
            fix="look for it where the record says that it lies, and do it there by hand",
        )


def _check_named(operation: Remove, listed: Iterable[Document]) -> None:
    """Raises: PermissionMissing: what is wanted may be among those that Graph lists without their names."""
    names = [name for name in operation.label if name != "id"]
    nameless = sum(is_person(one) and not any(_text(_value(one, name)) for name in names) for one in listed)
    if nameless:
        raise PermissionMissing(
            f"who {nameless} of those listed are may not be read: Graph tells their ids alone",
            fix=f"give the application {READS_PEOPLE}, or look by hand",
        )


def is_person(found: Document) -> bool:
    """Whether it is an account, of a list that has other kinds as well."""
    return found.get("@odata.type") == "#microsoft.graph.user"


def _locked_out(operation: Remove, subject: Document, found: Document) -> str:
    """Whose role of a Global Administrator it is, or may be; no other role lets anyone in again."""
    if operation.leaves_group:
        return _text(subject.get("id"))
    role = _text(found.get("roleDefinitionId")).lower()
    return _text(found.get("principalId")) if operation.locks_out and role == GLOBAL_ADMINISTRATOR else ""


def _wanted_of(operation: Remove, subject: Document) -> list[tuple[str, str]]:
    """Raises: BadAnswer: what was read first lacks it."""
    wanted = [(name, _text(_value(subject, of))) for name, of in operation.wanted_of_subject]
    if not all(value for _, value in wanted):
        raise BadAnswer(f"Graph's answer to {operation.subject} lacks what the list is searched for")
    return wanted


def _is_wanted(operation: Remove, wanted: Iterable[tuple[str, str]], found: Document) -> bool:
    return any(
        _is_called(value, name, text) or (operation.in_either_case and value.casefold() == text.casefold())
        for name, value in wanted
        for text in _texts(found, name)
    )


def _meant(operation: Remove, wanted: Sequence[tuple[str, str]], found: Sequence[Document]) -> list[Document]:
    """What goes without a person's word: none where there are more alike, or the records tell of more."""
    spelt = {text for one in found for name, _ in wanted for text in _texts(one, name)}
    if operation.in_either_case and len(spelt) > 1:
        return []
    alike = [one for one in found if _agrees(operation.alike, one)]
    if operation.agrees:
        alike = [one for one in alike if all(_agrees(each, one) for each in operation.agrees[0])]
        return alike if len(alike) == len(operation.agrees) == 1 else []
    is_clear = not operation.is_one or all(_is_called_once(operation, one, alike) for one in wanted)
    return alike if wanted and is_clear else []


def _agrees(alternatives: Collection[tuple[str, str]], found: Document) -> bool:
    """Whether one of them is so; an empty value stands for any."""
    return not alternatives or any(
        _is_called(value, name, text) if value else bool(text)
        for name, value in alternatives
        for text in _texts(found, name)
    )


async def _with_folders(graph: Graph, operation: Remove, found: Document) -> Document:
    """What is found, with the names of its folders under their properties' last names.

    Where Graph does not tell one it has none, and a person picks.
    """
    named: dict[str, object] = {}
    for name, path in operation.folders:
        if _text(_value(found, name)):
            folder = await _told_if_it_may_be(graph, _filled(path, {}, found))
            named[_folder_of(name)] = folder.get("displayName")
    return {**found, **named}


def _folder_of(name: str) -> str:
    """Where the folder's name stands, of a property that has its id."""
    return name.rpartition(".")[2]


async def _doubts(
    graph: Graph, operation: Remove, subject: Document, found: Collection[Document]
) -> dict[str, str]:
    """By the id of what is found, why it had better not be taken back; by none, of all of it."""
    if not operation.instances or not found:
        return {}
    try:
        listed = await graph.list(_filled(operation.instances, subject, {}), most=LISTED_MAX)
    except CollectorError as error:
        # A tenant without the licence for it has nothing that ends.
        return (
            {}
            if _NO_LICENCE in error.what
            else {"": "whether it was given for a time only could not be read"}
        )
    return {
        _text(one.get("roleAssignmentOriginId")): f"it was given until {until}, and would stay for good"
        for one in listed
        if (until := _text(one.get("endDateTime")))
    }


async def _told_if_it_may_be(graph: Graph, path: str) -> Document:
    """What Graph tells of it; empty where it does not, or there is no path."""
    try:
        return await graph.ask(GraphCall("GET", path)) if path else {}
    except (BadAnswer, NeedsOperator):
        return {}


def _is_called_once(operation: Remove, wanted: tuple[str, str], found: Iterable[Document]) -> bool:
    return sum(_is_wanted(operation, (wanted,), one) for one in found) <= 1


def _is_of_others_too(wanted: Collection[tuple[str, str]], found: Document) -> bool:
    """Whether somebody would lose it who is not meant: of several people who share one link."""
    several = ((name, _texts(found, name)) for name in {name for name, _ in wanted})
    return any(
        len(texts) > 1
        and not all(any(_is_called(value, of, text) for of, value in wanted if of == name) for text in texts)
        for name, texts in several
    )


def _is_called(wanted: str, name: str, found: str) -> bool:
    """Addresses, words that a rule looks for, and names of folders are the same in either case.

    All else may not be.
    """
    in_either = name.startswith("conditions.") or name.endswith(_IN_EITHER_CASE)
    return found.casefold() == wanted.casefold() if in_either or name in _FOLDERS else found == wanted


def _label(operation: Remove, found: Document) -> str:
    shown = ((name, _shown(operation, found, name)) for name in operation.label)
    return ", ".join(f"{name} {value}" for name, value in shown if value) or _text(found.get("id"))


def _shown(operation: Remove, found: Document, name: str) -> str:
    """A folder by its name, where that was read."""
    told = " and ".join(filter(None, _texts(found, name)))
    if not told or name not in dict(operation.folders):
        return told
    return _text(found.get(_folder_of(name))) or f"{told} (a folder whose name may not be read)"


def _removal(operation: Remove, subject: Document, found: Document) -> GraphCall:
    call = operation.removal
    body = call.body
    if body is not None:
        body = {name: _plainly_filled(value, found) for name, value in body.items()}
    return GraphCall(call.method, _filled(call.path, subject, found), body)


def _restoring(operation: Remove, subject: Document, found: Document) -> GraphCall | None:
    if not operation.restored_at:
        return None
    body = {name: found[name] for name in operation.restored if found.get(name) is not None}
    return GraphCall("POST", _filled(operation.restored_at, subject, found), body)


def _filled(template: str, subject: Document, found: Document) -> str:
    """The path with what was read in its places, each as one segment.

    Raises: BadAnswer: Graph's answer lacks it.
    """
    read = {"subject": subject, "found": found}

    def fill(place: re.Match[str]) -> str:
        try:
            return segment(_text(_value(read[place[1]], place[2])))
        except UnsafeValue as error:
            raise BadAnswer(f"Graph's answer: {place[2]} {error}") from None

    return _PLACE.sub(fill, template)


def _plainly_filled(value: object, found: Document) -> object:
    place = _PLACE.fullmatch(value) if isinstance(value, str) else None
    return value if place is None else _value(found, place[2])


def _value(document: Document, dotted: str) -> object:
    value: object = document
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _texts(document: Document, dotted: str) -> tuple[str, ...]:
    """The values as text; of a list that of each in it, empty where one lacks it."""
    every: list[object] = [document]
    for name in dotted.split("."):
        every = _unfolded([one.get(name) if isinstance(one, Mapping) else None for one in every])
    return tuple(map(_text, every))


def _unfolded(every: Iterable[object]) -> list[object]:
    return [part for one in every for part in (one if isinstance(one, list) else [one])]


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
