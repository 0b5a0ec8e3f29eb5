"""`dataclass` as the standard library has it, made in a fifteenth of the time.

The library's writes and compiles up to nine functions for each class when its module is imported. With some
210 classes that took 70 of the 330 ms of CPU of a collector's start, and of most of them a run makes no
instance. Here the library still reads the fields and makes the slots; but `__init__` is compiled when a class
makes its first instance, and the other functions are closures. `fields`, `replace` and `asdict` work as ever.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # What a type checker knows of the library's holds of this one.
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - for others to import from here
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        eq: bool = True,
        order: bool = False,
        **shape: bool,
    ) -> Any:
        """Make `cls` a dataclass; `shape` is what the library's takes besides: `slots`, `kw_only` ..."""

        def make(plain: type) -> type:
            if plain.__doc__ is None:
                # The library would put the signature of `__init__` there.
                plain.__doc__ = plain.__name__
            made = dataclasses.dataclass(init=False, repr=False, eq=False, **shape)(plain)
            _complete(made, frozen=frozen, eq=eq, order=order)
            return made

        return make if cls is None else make(cls)


def _complete(cls: type, *, frozen: bool, eq: bool, order: bool) -> None:
    """Give `cls` what its own body does not say."""
    fields = dataclasses.fields(cls)
    functions: dict[str, object] = {"__init__": _first_init(cls, frozen=frozen)}
    functions["__repr__"] = _repr_of([field.name for field in fields if field.repr])
    compared = [field.name for field in fields if field.compare]
    if eq:
        functions["__eq__"] = _comparing(compared, tuple.__eq__)
        if not frozen:
            functions["__hash__"] = None
        else:
            hashed = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
            functions["__hash__"] = _hash_of(hashed)
    if order:
        functions["__lt__"] = _comparing(compared, tuple.__lt__)
        functions["__le__"] = _comparing(compared, tuple.__le__)
        functions["__gt__"] = _comparing(compared, tuple.__gt__)
        functions["__ge__"] = _comparing(compared, tuple.__ge__)
    if frozen:
        functions |= {"__setattr__": _refuse_change, "__delattr__": _refuse_removal}
        functions |= {"__getstate__": _state_of, "__setstate__": _restore}
    for name, function in functions.items():
        if name not in cls.__dict__ or (name == "__hash__" and cls.__dict__[name] is None):
            setattr(cls, name, function)


def _first_init(cls: type, *, frozen: bool) -> Callable[..., None]:
    """An `__init__` that puts the compiled one in its own place, and calls that."""

    def __init__(self: object, /, *values: Any, **named: Any) -> None:  # noqa: N807
        init = _compile_init(cls, frozen=frozen)
        type.__setattr__(cls, "__init__", init)
        init(self, *values, **named)

    return __init__


def _compile_init(cls: type, *, frozen: bool) -> Callable[..., None]:
    """The `__init__` that the library would have made: one parameter for each field, in their order."""
    names: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    usual, by_name, body = ["self"], list[str](), list[str]()
    for field in dataclasses.fields(cls):
        value, default = _value_of(field, names)
        if field.init:
            (by_name if field.kw_only else usual).append(field.name + default)
        if value:
            body.append(f"_set(self, {field.name!r}, {value})" if frozen else f"self.{field.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*usual, *(["*", *by_name] if by_name else [])])
    exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), names)  # noqa: S102
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _value_of(field: dataclasses.Field[Any], names: dict[str, Any]) -> tuple[str, str]:
    """What is assigned to the field, if anything, and the default of its parameter; both may need `names`."""
    if field.default_factory is not MISSING:
        names[f"_make_{field.name}"] = field.default_factory
        if not field.init:
            return f"_make_{field.name}()", ""
        return f"_make_{field.name}() if {field.name} is _missing else {field.name}", "=_missing"
    if field.default is not MISSING:
        names[f"_default_{field.name}"] = field.default
        return (field.name if field.init else f"_default_{field.name}"), f"=_default_{field.name}"
    return (field.name if field.init else ""), ""


def _getter_of(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The values of these fields of an instance."""
    if len(names) > 1:
        return attrgetter(*names)
    # Of one field it would give the bare value.
    return lambda one: tuple([getattr(one, name) for name in names])


def _repr_of(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:  # noqa: N807
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return __repr__


def _hash_of(names: list[str]) -> Callable[[Any], int]:
    values = _getter_of(names)

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _comparing(
    names: list[str], compare: Callable[[tuple[Any, ...], tuple[Any, ...]], bool]
) -> Callable[[Any, Any], bool]:
    values = _getter_of(names)

    def compared(self: Any, other: Any) -> bool:
        return compare(values(self), values(other)) if type(other) is type(self) else NotImplemented

    return compared


def _refuse_change(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_removal(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state_of(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
