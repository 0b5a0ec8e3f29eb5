"""The shapes of the configuration as rows for a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterator

from m365watch.board.widgets.instances import Editor, Instances, Past, Trial


def rows_of(shape: Instances | Editor | Past | Trial) -> Iterator[list[str]]:
    """What the shape shows, the headings first."""
    match shape:
        case Instances(rows=instances):
            yield ["kind", "name", "about", "state", "wrong", "cure", "services"]
            for one in instances:
                services = "; ".join(f"{service.name} {service.state}" for service in one.services)
                yield [one.kind, one.name, one.about, one.state, one.says, one.fix, services]
        case Editor(name=name, text=text):
            yield ["name", "parameters"]
            yield [name, text]
        case Past(rows=past):
            yield ["number", "when", "by", "what", "difference"]
            for change in past:
                difference = "\n".join(line for _, line in change.lines)
                yield [str(change.number), change.at, change.by, change.what, difference]
        case Trial(says=says):
            yield ["preflight"]
            yield [says]
