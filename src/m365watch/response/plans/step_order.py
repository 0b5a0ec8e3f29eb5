"""In which order the steps of a plan come, and how many: the door is shut before things are tidied up.

Whoever sees his inbox rule vanish while his session lives makes it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from m365watch.response.plans.app_ids import is_by_object
from m365watch.response.plans.step_approval import SEE
from m365watch.response.steps.accounts import IF_NO_ACCOUNT
from m365watch.response.steps.step import Remove, Step


def runs(steps: Iterable[Step]) -> Iterator[tuple[int, list[Step]]]:
    """The steps in their order, those that are alike together, each time with the number of the first."""
    number = 1
    for _, alike in groupby(steps, key=lambda one: (one.word, one.way, one.notes)):
        run = list(alike)
        yield number, run
        number += len(run)


def others_of(run: Sequence[Step]) -> list[str]:
    """Whom the steps after the first are for: what of their titles is not the same in all."""
    same = set(run[0].title.split()).intersection(*(one.title.split() for one in run))
    named = (" ".join(word for word in one.title.split() if word not in same) for one in run[1:])
    return [name or one.title for name, one in zip(named, run[1:], strict=True)]


def spans(numbers: Iterable[int]) -> str:
    """The numbers, which ascend, in words: `1, 3 to 5, 7`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    told = (f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in found)
    return ", ".join(told)


_THINGS = 4
_PHASES = {
    "disable_account": 0,
    "disable_application": 0,
    "block_external_user": 0,
    "reset_password": 1,
    "revoke_sessions": 2,
    "restore_mfa": 3,
    "block_address": 5,
}
"""When a word's turn is; all others are in between, in the order of the rule."""
_TRIED = {"block_address": -2, SEE: -1}
"""Where an alert tells of nobody who got in: what was tried stops, and whoever got in after all is found."""
_DOOR_FIRST = "shut the door first: accounts, passwords and sessions come before what was left behind"
_LOOK_FIRST = (
    "this alert tells of nobody who got in: block first, see who did, and only then lock anybody out"
)
WORD_STEPS_MAX = 50
"""Steps of one word; what an alert has more of is said in the plan's notes."""


def in_order(words: Iterable[str]) -> tuple[str, ...]:
    """The words in the order in which they are carried out, each once."""
    every = dict.fromkeys(words)
    phases = _PHASES | _TRIED if SEE in every else _PHASES
    return tuple(sorted(every, key=lambda word: phases.get(word, _THINGS)))


def how_ordered(steps: Iterable[Step]) -> str:
    """The same in words."""
    return _LOOK_FIRST if any(one.word == SEE for one in steps) else _DOOR_FIRST


def singles_first(steps: Iterable[Step]) -> list[Step]:
    """The steps of a word; what takes away all of a thing comes after what takes away one, in their order.

    After it nothing is left for the others, which then say that nothing of that name is there.
    """
    return sorted(steps, key=_takes_all)


def _takes_all(step: Step) -> bool:
    return any(isinstance(one, Remove) and one.takes_all for one in step.operations)


def cut_long(by_word: Mapping[str, Sequence[Step]]) -> tuple[list[Step], list[str]]:
    """The steps that a plan has room for, and what there is to say of the others."""
    steps: list[Step] = []
    notes: list[str] = []
    for word, every in by_word.items():
        steps += every[:WORD_STEPS_MAX]
        left = len(every) - WORD_STEPS_MAX
        if left > 0:
            said = word.replace("_", " ")
            notes.append(f"{left:,} more steps ({said}) have no room here: the alert's records name them")
    return steps, notes


def spare_own(steps: Sequence[Step], own_apps: Iterable[str]) -> list[Step]:
    """Whatever would be done to an application of this product's own is by hand, and comes last.

    Which it is, the id that it signs in with tells; of one that is named by an object's a person has to see.
    """
    own = tuple(dict.fromkeys(one.lower() for one in own_apps if one))
    spared = [step for step in steps if any(_is_on(step, one) for one in own)]
    others = [one for one in steps if one not in spared]
    return [*(_to_be_seen(one, own) if own else one for one in others), *map(_by_hand, spared)]


def _is_on(step: Step, app_id: str) -> bool:
    """Whether the step takes the application by its id; a name with that id in it is quoted, and is none.

    The id is no secret: an account, a rule or a file may be called by it.
    """
    paths = any(f"(appid='{app_id}')" in call.path.lower() for call in step.calls)
    named = (f"-appid '{app_id}'", f" or appid eq '{app_id}'\"")
    return paths or any(one in line.lower() for one in named for line in step.powershell)


def _to_be_seen(step: Step, own: Sequence[str]) -> Step:
    others = f"is not {' or '.join(own)}: with that the records are collected or the responses carried out"
    if any(map(is_by_object, step.powershell)):
        why = (
            f"See first that its AppId {others}, and the record names an object of the directory. Graph sees"
            " to it itself."
        )
    elif any(line.startswith(IF_NO_ACCOUNT) for line in step.powershell):
        why = f"If it is an application's id, see first that its AppId {others}."
    else:
        return step
    # What says why only a person may say yes to it stays the first.
    first = int(step.asks_always)
    return replace(step, notes=(*step.notes[:first], why, *step.notes[first:]))


def _by_hand(step: Step) -> Step:
    why = (
        "By hand, and last: with this application the records are collected or the responses carried out."
        " Whatever is taken from it ends that; renew its credentials first, and look at who changed it."
    )
    return replace(step, operations=(), permissions=(), notes=(why, *step.notes))
