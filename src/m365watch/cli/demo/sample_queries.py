"""What the demo asks the lake when the records have arrived: the questions, and how answers look."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from m365watch.cli.lake.query_rows import objects_of
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.lake.sql_sandbox.sandbox_client import LakeReader, QueryAnswer


_WIDTH_MAX = 40
"""A longer value takes its own row out of line, and not the whole table."""
_INDENT = 4
"""Columns by which the details of a row are set in."""


@dataclass(frozen=True, slots=True)
class Question:
    """One table of the demo: its key in JSON and in the file's name, its title, its SQL."""

    name: str
    title: str
    sql: str
    below: tuple[str, ...] = ()
    """Columns that have a line of their own below each row, since no terminal is wide enough for all."""


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
select split_part(devo_table, '.', -1) as "table", count(*) as records, count(distinct user_id) as users,
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
       count(*) filter (where operation = 'UserLoggedIn') as ok,
       max(created_at) as last
from azureactivedirectory
where operation in ('UserLoginFailed', 'UserLoggedIn')
group by all
having failed > 0
order by ok > failed, failed desc, "user", address
limit 8
""",
    ),
    Question(
        "inbox-rules",
        "Inbox rules, those that forward outside first",
        """\
with settings as (
    select created_at as time, user_id as "user", client_ip as address, split_part(user_id, '@', -1) as home,
           try(map(field(raw, '$.Parameters[*].Name'), field(raw, '$.Parameters[*].Value'))) as asked,
           try(map(field(raw, '$.OperationProperties[*].Name'),
                   field(raw, '$.OperationProperties[*].Value'))) as saved
    from exchange
    where operation in ('New-InboxRule', 'Set-InboxRule', 'UpdateInboxRules')
), rules as (
    select time, "user", address, home,
           coalesce(asked['Name'], saved['RuleName']) as rule,
           concat_ws(', ', asked['SubjectOrBodyContainsWords'], asked['SubjectContainsWords'],
                           asked['BodyContainsWords'], asked['From']) as matches,
           concat_ws(', ', if(asked['DeleteMessage'] = 'True', 'delete', null),
                           if(asked['MarkAsRead'] = 'True', 'mark as read', null),
                           'move to ' || asked['MoveToFolder'], saved['RuleActions']) as does,
           concat_ws(', ', asked['ForwardTo'], asked['ForwardAsAttachmentTo'], asked['RedirectTo'],
                           array_to_string(nullif(regexp_extract_all(
                               saved['ServerRule'], '[\\w.+-]+@[\\w.-]+'), []), ', ')) as forwards_to
    from settings
)
select time, "user", address, rule,
       nullif(matches, '') as matches, nullif(does, '') as does, nullif(forwards_to, '') as forwards_to
from rules
order by forwards_to like '%@%' and not ends_with(lower(forwards_to), '@' || lower(home)) desc,
         does like '%delete%' or does like '%mark as read%' desc, time desc
limit 8
""",
        below=("forwards_to", "rule", "matches", "does"),
    ),
    Question(
        "shared-outside",
        "Files shared outside by user, those that strangers opened first",
        """\
with shared as (
    select created_at, user_id, client_ip, operation, object_id as file,
           if(field(raw, '$.TargetUserOrGroupType') = 'Guest',
              field(raw, '$.TargetUserOrGroupName'), null) as guest
    from management
    where operation in ('AnonymousLinkCreated', 'AnonymousLinkUpdated', 'AnonymousLinkUsed',
                        'AddedToSecureLink', 'SharingInvitationCreated', 'SharingSet')
), opened as (
    select file, list(distinct client_ip) as addresses
    from shared
    where operation = 'AnonymousLinkUsed'
    group by all
)
select user_id as "user",
       count(distinct file) filter (where operation like 'AnonymousLink%') as linked,
       count(distinct file) filter (where addresses is not null) as opened,
       max(created_at) as last,
       string_agg(distinct guest, ', ') as guests,
       nullif(array_to_string(list_sort(list_distinct(flatten(list(addresses)))), ', '), '') as opened_from
from shared left join opened using (file)
where operation != 'AnonymousLinkUsed' and (operation like 'AnonymousLink%' or guest is not null)
group by all
order by opened desc, linked desc, last desc
limit 8
""",
        below=("guests", "opened_from"),
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
    return {finding.question.name: objects_of(finding.answer) for finding in findings}


def finding_view(finding: Finding) -> RenderableType:
    """One answer under its title; where the terminal is too narrow lines are wrapped, and nothing is cut."""
    title = Text(finding.question.title, style="bold")
    rows = finding.answer.rows
    if not rows:
        return Group(title, Text("none", style="dim"))
    below = finding.question.below
    places = {place: name for place, name in enumerate(finding.answer.columns) if name not in below}
    heads = [Text(name, style="dim") for name in places.values()]
    cells = [[_cell(row[place]) for place in places] for row in rows]
    numbers = [isinstance(rows[0][place], int) for place in places]
    widths = [
        min(_WIDTH_MAX, max(cell.cell_len for cell in column)) for column in zip(heads, *cells, strict=True)
    ]
    lines: list[RenderableType] = [title, _aligned(heads, widths, numbers)]
    for row, shown in zip(rows, cells, strict=True):
        lines.append(_aligned(shown, widths, numbers))
        named = dict(zip(finding.answer.columns, row, strict=True))
        details = [_detail(name, named[name]) for name in below if named[name] is not None]
        if details:
            lines.append(Padding(Text("  ").join(details), (0, 0, 0, _INDENT), expand=False))
    return Group(*lines)


def _aligned(cells: Sequence[Text], widths: Sequence[int], numbers: Sequence[bool]) -> Text:
    """A line of the table: numbers to the right, everything else to the left."""
    for cell, width, number in zip(cells, widths, numbers, strict=True):
        pad = cell.pad_left if number else cell.pad_right
        pad(max(0, width - cell.cell_len))
    line = Text("  ", overflow="fold").join(cells)
    line.rstrip()
    return line


def _detail(name: str, value: object) -> Text:
    return Text.assemble((f"{name.replace('_', ' ')}: ", "dim"), _cell(value))


def _cell(value: object) -> Text:
    match value:
        case None:
            return Text("-", style="dim")
        case int():
            return Text(f"{value:,}", style="cyan")
        case datetime():
            return Text(f"{value:%m-%d %H:%M}", style="dim")
        case _:
            return Text(plain(str(value)))
