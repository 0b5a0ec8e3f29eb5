"""A parser of that part of LINQ which Devo documents and the exports use; anything else is an error.

Source: the notes on LINQ in Devo's reference: clauses as a pipeline, functions by name and number of
arguments, texts in which only quotation marks and backslashes are escaped, no order, no join.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<text>"(?:[^"\\\x00-\x1f]|\\["\\])*")
  | (?P<span>\d+[smhd]\b)
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>->>|->|<-|!=|/=|<=|>=|[=<>+\-*(){}\[\],.~])
    """,
    re.VERBOSE,
)
KEYWORDS = {"from", "where", "select", "as", "group", "every", "by", "and", "or", "not", "in"}
ROW_FUNCTIONS = {
    "asn": (1, 1),
    "asorg": (1, 1),
    "at": (2, 2),
    "countrycode": (1, 1),
    "endswith": (2, 2),
    "epoch": (1, 1),
    "eqic": (2, 2),
    "float": (1, 1),
    "has": (2, 9),
    "hour": (1, 2),
    "ifthenelse": (3, 3),
    "int": (1, 1),
    "ip4": (1, 1),
    "ip6": (1, 1),
    "isnotnull": (1, 1),
    "isnull": (1, 1),
    "jqcompile": (1, 1),
    "jqeval": (2, 2),
    "jsonparse": (1, 1),
    "length": (1, 1),
    "lower": (1, 1),
    "matches": (2, 2),
    "net4": (1, 1),
    "net6": (1, 1),
    "nvl": (2, 2),
    "parsedate": (2, 3),
    "peek": (2, 3),
    "re": (1, 1),
    "replaceall": (3, 3),
    "sort": (1, 2),
    "startswith": (2, 2),
    "str": (1, 1),
    "stringify": (1, 1),
    "subsall": (3, 3),
    "substring": (2, 3),
    "template": (1, 1),
    "today": (0, 1),
    "toktains": (2, 4),
    "trim": (1, 1),
    "weakhas": (2, 2),
    "weaktoktains": (2, 4),
}
TOTALS = {
    "avg": (1, 1),
    "collect": (1, 1),
    "collectdistinct": (1, 1),
    "count": (0, 1),
    "first": (1, 1),
    "hllppcount": (1, 1),
    "last": (1, 1),
    "max": (1, 1),
    "median": (1, 1),
    "min": (1, 1),
    "nnfirst": (1, 1),
    "nnlast": (1, 1),
    "percentile": (2, 2),
    "sizedistinct": (1, 1),
    "sum": (1, 1),
}
COLUMNS = {
    "cloud.office365.management": {
        "Operation",
        "Workload",
        "UserId",
        "ResultStatus",
        "rawMessage",
        "eventdate",
    },
    "cloud.office365.management.exchange": {"Operation", "Workload", "UserId", "message", "eventdate"},
    "cloud.office365.management.azureactivedirectory": {
        "Operation",
        "Workload",
        "UserId",
        "ResultStatus",
        "message",
        "eventdate",
    },
    "cloud.office365.management.sharepoint": {"Operation", "UserId", "message", "eventdate"},
    "cloud.office365.management.onedrive": {"Operation", "UserId", "message", "eventdate"},
}
"""The columns that Devo's own queries use, of those tables that are asked."""


class NoLinq(ValueError):
    """The text is no LINQ that is known here; says where and why."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: object
    kind: str


@dataclass(frozen=True, slots=True)
class Column:
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Expression, ...]


Expression = Literal | Column | Call


@dataclass(frozen=True, slots=True)
class Where:
    conditions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Select:
    made: tuple[tuple[Expression, str], ...]


@dataclass(frozen=True, slots=True)
class Group:
    every_s: int
    keys: tuple[str, ...]


Clause = Where | Select | Group


@dataclass(slots=True)
class Query:
    table: str
    clauses: list[Clause] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    """What a row of the result has."""


def parse(text: str) -> Query:
    """The query, all its names resolved."""
    return _Parser(list(_tokens(text))).query()


def calls_in(expression: Expression) -> Iterator[Call]:
    """Every call, from the outside in."""
    if isinstance(expression, Call):
        yield expression
        for argument in expression.arguments:
            yield from calls_in(argument)


def expressions_of(query: Query) -> Iterator[Expression]:
    """Every expression of a query."""
    for clause in query.clauses:
        if isinstance(clause, Where):
            yield from clause.conditions
        elif isinstance(clause, Select):
            yield from (expression for expression, _ in clause.made)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise NoLinq(f"lexical error at {text[place : place + 40]!r}")
        place = found.end()
        if found.lastgroup != "space":
            yield str(found.lastgroup), found[0]
    yield "end", ""


T = TypeVar("T")
_SPANS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self._known: set[str] = set()
        self._table: set[str] = set()
        self._grouped = False

    def query(self) -> Query:
        self._want("from")
        table = self._want_kind("name")
        while self._take("."):
            table += "." + self._want_kind("name")
        if table not in COLUMNS:
            raise NoLinq(f"Unknown table `{table}`")
        self._known = set(COLUMNS[table])
        self._table = {one.lower() for one in COLUMNS[table]}
        query = Query(table)
        while self._look() != ("end", ""):
            query.clauses.append(self._clause())
        query.columns = self._known
        return query

    def _clause(self) -> Clause:
        if self._take("where"):
            return Where(tuple(self._several(self._expression)))
        if self._take("select"):
            made = tuple(self._several(self._made))
            for _, name in made:
                self._add(name)
            return Select(made)
        if self._take("group"):
            return self._group()
        raise NoLinq(f"a clause begins with {self._look()[1]!r}")

    def _add(self, name: str) -> None:
        if name.lower() in {one.lower() for one in self._known} | self._table or name in KEYWORDS:
            raise NoLinq(f"Identifier `{name}` is used more than once")
        self._known.add(name)

    def _made(self) -> tuple[Expression, str]:
        expression = self._expression()
        if not self._take("as"):
            raise NoLinq("a select without a name")
        return expression, self._want_kind("name")

    def _group(self) -> Group:
        if self._grouped:
            raise NoLinq("grouped twice")
        self._grouped = True
        every_s, keys = 0, []
        if self._take("every"):
            span = self._want_kind("span")
            every_s = int(span[:-1]) * _SPANS[span[-1]]
        if self._take("by"):
            keys = self._several(lambda: self._want_kind("name"))
        for key in keys:
            self._resolve(key)
        self._known = set(keys) | {"eventdate"} if every_s else set(keys)
        return Group(every_s, tuple(keys))

    def _resolve(self, name: str) -> str:
        if name not in self._known and not self._is_total_argument(name):
            raise NoLinq(f"Unknown identifier `{name}`")
        return name

    def _is_total_argument(self, name: str) -> bool:
        return self._grouped and self._inside_total and name not in KEYWORDS

    _inside_total = False

    def _expression(self) -> Expression:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, word: str, part: Callable[[], Expression]) -> Expression:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Call(word, tuple(parts))

    def _negation(self) -> Expression:
        if self._take("not"):
            return Call("not", (self._negation(),))
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._sum()
        sign = self._look()[1]
        if sign in ("=", "!=", "/=", "<", "<=", ">", ">=", "->", "->>", "<-", "~", "in"):
            self._place += 1
            return Call("!=" if sign == "/=" else sign, (left, self._sum()))
        return left

    def _sum(self) -> Expression:
        left = self._index()
        while self._look()[1] in ("+", "-"):
            sign = self._look()[1]
            self._place += 1
            left = Call(sign, (left, self._index()))
        return left

    def _index(self) -> Expression:
        value = self._primary()
        while self._take("["):
            value = Call("at", (value, self._expression()))
            self._want("]")
        return value

    def _primary(self) -> Expression:
        if self._take("("):
            value = self._expression()
            self._want(")")
            return value
        if self._take("{"):
            values = self._several(self._expression)
            self._want("}")
            return Call("set", tuple(values))
        kind, text = self._look()
        self._place += 1
        if kind == "text":
            return Literal(re.sub(r"\\(.)", r"\1", text[1:-1]), "text")
        if kind == "span":
            return Literal(int(text[:-1]) * _SPANS[text[-1]], "span")
        if text == "-":
            number = self._want_kind("number")
            return Literal(-float(number), "number")
        if kind == "number":
            return Literal(float(text) if "." in text else int(text), "number")
        if text in ("true", "false"):
            return Literal(text == "true", "flag")
        if kind != "name" or text in KEYWORDS:
            raise NoLinq(f"a value is wanted, and there is {text!r}")
        return self._call(text) if self._look()[1] == "(" else Column(self._resolve(text))

    def _call(self, name: str) -> Call:
        is_total = self._grouped and name in TOTALS
        bounds = TOTALS[name] if is_total else ROW_FUNCTIONS.get(name)
        if bounds is None:
            raise NoLinq(f"No function named `{name}`")
        self._want("(")
        before, self._inside_total = self._inside_total, self._inside_total or is_total
        arguments = [] if self._look()[1] == ")" else self._several(self._expression)
        self._inside_total = before
        self._want(")")
        if not bounds[0] <= len(arguments) <= bounds[1]:
            raise NoLinq(f"`{name}` takes {bounds[0]} to {bounds[1]} arguments, and has {len(arguments)}")
        return Call(name, tuple(arguments))

    def _several(self, one: Callable[[], T]) -> list[T]:
        found = [one()]
        while self._take(","):
            found.append(one())
        return found

    def _look(self) -> tuple[str, str]:
        return self._tokens[self._place]

    def _take(self, text: str) -> bool:
        kind, found = self._look()
        if found != text or kind == "text":
            return False
        self._place += 1
        return True

    def _want(self, text: str) -> None:
        if not self._take(text):
            raise NoLinq(f"{text!r} is wanted, and there is {self._look()[1]!r}")

    def _want_kind(self, kind: str) -> str:
        found, text = self._look()
        if found != kind or (kind == "name" and text in KEYWORDS):
            raise NoLinq(f"a {kind} is wanted, and there is {text!r}")
        self._place += 1
        return text
