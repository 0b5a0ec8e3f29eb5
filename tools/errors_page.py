"""The reference page of the errors: what causes each, what follows, and what a person can do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from m365watch.auth.refusals import REFUSALS, Refusal
from m365watch.common.errors import CollectorError, ContentLost, NeedsOperator, Quarantined, RetryLater
from m365watch.registry.credential_specs import CREDENTIALS
from m365watch.sources.management_api.responses import CODES

HEAD = """\
# Errors

Made from the code by `./dev docs`. The class of an error says what happens next; its code is the stable
name under which metrics count it; its text says where, what, and what then.
"""

BRANCHES: dict[type[CollectorError], str] = {
    RetryLater: "Tried again by itself; nothing has been lost",
    NeedsOperator: "A person has to act; the text says how",
    Quarantined: "One record or blob stands aside, kept by name; the next one goes on",
    ContentLost: "The service no longer serves the content; counted, in plain sight",
}

API_HEAD = """
## Codes of the Management Activity API

`AF20024` (the subscription is enabled already) is success.

"""

ENTRA_HEAD = """
## Codes of Entra's token endpoint

"""


def render() -> str:
    """The page: the tree of errors, then the codes of the two services that lead to them."""
    return (
        HEAD + "".join(render_branch(*branch) for branch in BRANCHES.items()) + render_api() + render_entra()
    )


def render_branch(root: type[CollectorError], title: str) -> str:
    """One section: what all errors of the branch have in common, and each of them."""
    rows = [[f"`{kind.code}`", kind.__name__, *cause_and_cure(kind)] for kind in kinds_of(root)]
    return f"\n## {title}\n\n{table(['code', 'class', 'cause', 'what to do'], rows)}"


def kinds_of(root: type[CollectorError]) -> Iterator[type[CollectorError]]:
    """`root` and everything below it, as the tree in `errors.py` has them."""
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == root.__module__:
            yield from kinds_of(kind)


def cause_and_cure(kind: type[CollectorError]) -> tuple[str, str]:
    """The first line of the class's docstring, and the rest of it on one line."""
    cause, _, cure = inspect.cleandoc(kind.__doc__ or "").partition("\n")
    return cause, " ".join(cure.split())


def render_api() -> str:
    """The AF codes."""
    rows = [[f"`{known.code}`", known.cause, known.becomes.__name__, known.fix] for known in CODES.values()]
    return API_HEAD + table(["code", "cause", "becomes", "what to do"], rows)


def render_entra() -> str:
    """The AADSTS codes."""
    rows = [
        [f"`AADSTS{known.code}`", known.cause, known.becomes.__name__, cures(known)] for known in REFUSALS
    ]
    return ENTRA_HEAD + table(["code", "cause", "becomes", "what to do"], rows)


def cures(known: Refusal) -> str:
    """What to do about a code: in general, and where a kind of credential needs something else."""
    general = known.fix_for("")
    fixes = ((spec.key, spec.fixes.get(known.code, general)) for spec in CREDENTIALS.specs)
    return "; ".join([general, *(f"with `{key}`: {fix}" for key, fix in fixes if fix != general)])


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""

    def lines() -> Iterator[str]:
        yield line(titles)
        yield "|---" * len(titles) + "|"
        yield from map(line, rows)

    return "\n".join(lines()) + "\n"


def line(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return "".join(f"| {cell.replace('|', chr(92) + '|')} " for cell in cells) + "|"
