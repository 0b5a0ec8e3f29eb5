"""What the demo asks the lake when the records have arrived: the questions, and how answers look."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.documents import instant
from m365watch.cli.terminal import plain

if TYPE_CHECKING:
    from m365watch.lake.reader import LakeReader, QueryAnswer


@dataclass(frozen=True, slots=True)
class Question:
    """One table of the demo: its key in JSON and in the file's name, its title, its SQL."""

    name: str
    title: str
    sql: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A question with its answer."""

    question: Question
    answer: QueryAnswer


QUESTIONS = (
    Question(
        "records-per-table",
        "Records per table",
        """\
select devo_table as "table", count(*) as records, count(distinct user_id) as users,
       min(created_at) as first, max(created_at) as last
from audit
group by all
order by records desc
""",
    ),
    Question(
        "failed-sign-ins",
        "Failed sign-ins by user and address",
        """\
select user_id as "user", client_ip as address,
       count(*) filter (where operation = 'UserLoginFailed') as failed,
       count(*) filter (where operation = 'UserLoggedIn') as succeeded,
       max(created_at) as last
from azureactivedirectory
where operation in ('UserLoginFailed', 'UserLoggedIn')
group by all
having failed > 0
order by succeeded > failed, failed desc, "user", address
limit 8
""",
    ),
    Question(
        "inbox-rules",
        "Inbox rules created",
        """\
select created_at as time, user_id as "user", client_ip as address,
       coalesce(
           nullif(array_to_string(
               [v for v in field(raw, '$.Parameters[*].Value') if v not in ('True', 'False')], ', '), ''),
           concat_ws(', ', field(raw, '$.OperationProperties[1].Value'),
                           field(raw, '$.OperationProperties[3].Value'))) as rule
from exchange
where operation in ('New-InboxRule', 'Set-InboxRule', 'UpdateInboxRules')
order by rule like '%@%' desc, time desc
limit 8
""",
    ),
    Question(
        "shared-outside",
        "Files shared outside",
        """\
select created_at as time, user_id as "user", operation,
       coalesce(field(raw, '$.SourceFileName'), object_id) as file,
       field(raw, '$.TargetUserOrGroupName') as "with"
from "cloud.office365.management"
where operation in ('AnonymousLinkCreated', 'AnonymousLinkUpdated')
   or (operation in ('AddedToSecureLink', 'SharingInvitationCreated', 'SharingSet')
       and field(raw, '$.TargetUserOrGroupType') = 'Guest')
order by time desc
limit 8
""",
    ),
)


def ask(reader: LakeReader) -> list[Finding]:
    """The answers to all questions; two are asked at a time, each in a process of its own.

    Raises: NeedsOperator: the lake cannot be read.
    """
    with ThreadPoolExecutor(max_workers=2) as asking:
        answers = asking.map(lambda question: reader.query(question.sql), QUESTIONS)
        return [Finding(question, answer) for question, answer in zip(QUESTIONS, answers, strict=True)]


def write_questions(directory: Path) -> None:
    """Leave each question's SQL in `directory` as `<name>.sql`, for the reader to change and ask again."""
    for question in QUESTIONS:
        (directory / f"{question.name}.sql").write_text(question.sql, encoding="utf-8")


def findings_document(findings: Sequence[Finding]) -> dict[str, list[dict[str, Any]]]:
    """The answers as JSON: per question a list of objects."""
    return {finding.question.name: _objects(finding.answer) for finding in findings}


def finding_view(finding: Finding) -> RenderableType:
    """One answer under its title, a line a row at any width: long texts are cut with an ellipsis."""
    title = Text(finding.question.title, style="bold")
    if not finding.answer.rows:
        return Group(title, Text("none", style="dim"))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for place, name in enumerate(finding.answer.columns):
        kind = type(finding.answer.rows[0][place])
        # Columns that may wrap are the ones that get narrower; their cells are cut instead of wrapped.
        table.add_column(name, justify="right" if kind is int else "left", no_wrap=kind in {int, datetime})
    for row in finding.answer.rows:
        table.add_row(*map(_cell, row))
    return Group(title, table)


def _cell(value: object) -> Text:
    match value:
        case None:
            return Text("-", style="dim")
        case int():
            return Text(f"{value:,}", style="cyan")
        case datetime():
            return Text(f"{value:%m-%d %H:%M}", style="dim")
        case _:
            return Text(plain(str(value)), no_wrap=True, overflow="ellipsis")


def _objects(answer: QueryAnswer) -> list[dict[str, Any]]:
    return [dict(zip(answer.columns, map(_plain_value, row), strict=True)) for row in answer.rows]


def _plain_value(value: object) -> object:
    match value:
        case datetime():
            return instant(value)
        case date():
            return value.isoformat()
        case _:
            return value
