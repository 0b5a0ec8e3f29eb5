"""What outputs to Devo and to receivers of syslog have in common."""

# Annotations stay objects here (`config.models.base.Section` says why).

import re
import socket
from typing import Self

from m365watch.config.models.outputs import OutputSection
from m365watch.outputs.network.options import TagKeys

_NOT_IN_A_LINES_HOST = re.compile(r"[^!-~]")


class TaggedOutput(OutputSection):
    """An output whose lines Devo may read, each under the tag of its table."""

    config: TagKeys

    _override_tags: tuple[str, ...] = ()

    @property
    def is_read_by_devo(self) -> bool:
        """Whether the lines go to Devo."""
        return True

    @property
    def host(self) -> str:
        """The host that each line names."""
        return self.config.hostname or own_host()

    @property
    def waits_on_disk(self) -> bool:
        """A receiver may be away for hours."""
        return True

    @property
    def adds_devo_fields(self) -> bool:
        """As set, or where Devo reads the lines."""
        given = self.config.add_devo_fields
        return self.is_read_by_devo if given is None else given

    @property
    def sends_events(self) -> bool:
        """As set, or where Devo reads the lines, as of Devo's own collector."""
        given = self.config.collectors_out
        return self.is_read_by_devo if given is None else given

    @property
    def sends_events_unasked(self) -> bool:
        """Where Devo reads the lines."""
        return self.config.collectors_out is None and self.is_read_by_devo

    @property
    def override_tags(self) -> tuple[str, ...]:
        """Tags that are used as they are: Devo is taken to have the tables that somebody names."""
        return self._override_tags

    def with_override_tags(self, tags: tuple[str, ...]) -> Self:
        """The same, told every `override_tag` of the inputs."""
        return self.told(_override_tags=tags)

    def for_alerts(self, name: str, table: str) -> Self:
        """The same receiver, which need not know the table beforehand."""
        return self.named(name).with_options(known_tables=(*self.config.known_tables, table))


def own_host() -> str:
    """The machine's own name, as a line names it."""
    return _NOT_IN_A_LINES_HOST.sub("_", socket.gethostname())[:255] or "-"


AT_DEVO = "not searched: what was sent stays there for as long as Devo keeps it; ask Devo to delete it"
"""What is told of a person's records that were sent to Devo."""
