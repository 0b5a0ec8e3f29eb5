"""Our `dataclass` is the library's in everything but the time it takes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from m365watch.values import dataclass as ours

OPTIONS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "eq": False},
    {"frozen": True, "slots": True, "order": True},
    {"slots": True, "kw_only": True},
    {"frozen": True, "slots": True, "weakref_slot": True},
]


def make(decorator: Callable[..., Any], **options: bool) -> Any:
    """A class with every kind of field that the package uses."""

    @decorator(**options)
    class Sample:
        """A sample."""

        count: int
        name: str = "none"
        seen: list[int] = dataclasses.field(default_factory=list)
        secret: str = dataclasses.field(default="hidden", repr=False, compare=False)
        made: int = dataclasses.field(init=False, default=7)
        drawn: list[int] = dataclasses.field(init=False, default_factory=list, hash=False)
        bound: ClassVar[int] = 3

        def __post_init__(self) -> None:
            if self.count < 0:
                raise ValueError("negative")

    return Sample


def outcome(work: Callable[[], object]) -> object:
    """What `work` returns, or the kind of its failure."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whichever the library raises
        return type(error)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "work",
    [
        lambda made: repr(made(count=1, name="a", seen=[1])),
        lambda made: made(count=1) == made(count=1),
        lambda made: made(count=1) == made(count=1, secret="other"),
        lambda made: made(count=1) == made(count=2),
        lambda made: made(count=1) == 1,
        lambda made: made(count=1) < made(count=2),
        lambda made: made(count=1) >= made(count=2),
        # Both live at once: what hashes by where it lies could lie where the one before it had lain.
        lambda made: len({hash(one) for one in [made(count=1, seen=()), made(count=1, seen=())]}),
        lambda made: type(hash(made(count=1, seen=[]))),
        lambda made: repr(made(1, "a")),
        lambda made: made(),
        lambda made: made(count=1, made=3),
        lambda made: made(count=-1),
        lambda made: made(count=1, other=1),
        lambda made: setattr(made(count=1), "count", 2),
        lambda made: delattr(made(count=1), "count"),
        lambda made: repr(dataclasses.replace(made(count=1), name="b")),
        lambda made: dataclasses.asdict(made(count=1)),
        lambda made: dataclasses.astuple(made(count=1)),
        lambda made: [(one.name, one.init, one.repr) for one in dataclasses.fields(made)],
        lambda made: made(count=1).seen is made(count=1).seen,
        lambda made: repr(copy.deepcopy(made(count=1, seen=[1]))),
        lambda made: repr(copy.copy(made(count=1, seen=[1]))),
        lambda made: made.__match_args__,
        lambda made: hasattr(made(count=1), "__dict__"),
        lambda made: made.__doc__,
    ],
)
def test_it_does_what_the_librarys_does(options: dict[str, bool], work: Callable[[Any], object]) -> None:
    """Made, shown, compared, hashed, ordered, changed, copied: the outcome is the same, failures included."""
    expected = outcome(lambda: work(make(dataclasses.dataclass, **options)))

    assert outcome(lambda: work(make(ours, **options))) == expected


def test_what_the_body_says_stays() -> None:
    """A class that has a function of its own keeps it."""

    @ours(frozen=True, slots=True)
    class Own:
        count: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

    assert (repr(Own(1)), Own(1) == 2, hash(Own(1))) == ("own", True, 5)


def test_a_class_below_it_is_made_by_the_fields_of_both() -> None:
    """Fields are inherited, whichever of the two makes its first instance first."""

    @ours(frozen=True, slots=True)
    class Above:
        count: int

    @ours(frozen=True, slots=True)
    class Below(Above):
        name: str = "a"

    class Plain(Above):
        """Without fields of its own."""

    assert repr(Below(1)).endswith("Below(count=1, name='a')")
    assert repr(Plain(2)).endswith("Plain(count=2)")
    assert Above(1) == Above(1)
    assert Above(1) != Plain(1)


@ours(frozen=True, slots=True)
class Sent:
    """Can be found by its name, as pickle asks for."""

    count: int
    names: tuple[str, ...] = ()


def test_an_instance_can_be_sent_to_another_process() -> None:
    """Pickled and read again it is equal, frozen as it is."""
    sent = Sent(1, ("a",))

    assert pickle.loads(pickle.dumps(sent)) == sent


def test_nothing_is_compiled_before_the_first_instance() -> None:
    """A thousand classes that nobody makes an instance of compile nothing."""
    program = """
import builtins
from m365watch.values import dataclass
compiled = []
real = builtins.exec
builtins.exec = lambda *a: (compiled.append(1), real(*a))
def make():
    class Sample:
        count: int
    return dataclass(frozen=True, slots=True, order=True)(Sample)
classes = [make() for _ in range(1000)]
before = len(compiled)
classes[0](1), classes[0](2)
print(before, len(compiled))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["0", "1"]
