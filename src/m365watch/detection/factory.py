"""The detections of a configuration: its rules, what they may know, and the output that runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from m365watch import __version__
from m365watch.common.clock import Clock, SystemClock
from m365watch.common.errors import CollectorError, LakeMissing, SettingsRefused
from m365watch.common.file_access import NO_FILE, closed_to, is_there, why_closed, why_unread
from m365watch.common.model import TenantId
from m365watch.config.models.detections import DETECTIONS, DetectionsSection
from m365watch.config.models.settings import Settings
from m365watch.ledger.lock import LOCK_FILE, LedgerLock, holder_of
from m365watch.outputs.lake.spec import LakeSection

if TYPE_CHECKING:
    from m365watch.detection.alert_store_rebuild import LakeRebuilder, RebuildAsked, Rebuilt
    from m365watch.detection.alerts.alert_exceptions import Exceptions
    from m365watch.detection.alerts.lake_sync import Shelf
    from m365watch.detection.detection_output import DetectionOutput, RulesRead
    from m365watch.detection.engine.engine_port import Detects
    from m365watch.detection.fields.enrichment_context import Knowledge
    from m365watch.detection.rules.rule import Rule
    from m365watch.detection.rules.rule_library import Library
    from m365watch.detection.store.detection_store import DetectionState

MISTAKES_TOLD_MAX = 20
_log = structlog.get_logger(__name__)


def load_rules(settings: DetectionsSection, *, tried: Collection[Path] = ()) -> Library:
    """The rules of the packs and directories, and `tried` ones; what is wrong with one is in `mistakes`."""
    from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, load_library

    if not (settings.rules_directories or tried):
        return _load_packs(tuple(settings.packs))
    places = [*(PACKS_DIRECTORY / name for name in settings.packs), *settings.rules_directories]
    return load_library(places, own_domains=settings.accepted_domains, tried=tried)


@cache
def _load_packs(names: tuple[str, ...]) -> Library:
    """The rules of packs alone: these come with the program, and change with it only."""
    from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, load_library

    return load_library([PACKS_DIRECTORY / name for name in names])


def knowledge_of(
    settings: DetectionsSection, *, clock: Clock | None = None, tell: Callable[[str], None] | None = None
) -> Knowledge:
    """What the rules may know beyond the records; files are read when a rule first asks for them."""
    from m365watch.detection.enrichment.context_loader import make_knowledge
    from m365watch.detection.enrichment.watched_file import say_nothing

    return make_knowledge(settings, clock=clock or SystemClock(), tell=tell or say_nothing)


def _tell_of_file(line: str) -> None:
    """A table or list that cannot be read: nothing is lost, and rules go on with what was there before."""
    _log.warning(f"detections: {line}; rules go on with what was there before")


def load_exceptions(settings: DetectionsSection) -> tuple[Exceptions, list[str]]:
    """What is not to be told, and a line for each mistake in the file."""
    from m365watch.detection.alerts.alert_exceptions import Exceptions

    if settings.exceptions_file is None:
        return Exceptions(), []
    from m365watch.detection.alerts.exceptions_file import read_exceptions

    return read_exceptions(settings.exceptions_file)


def list_vain(exceptions: Exceptions, library: Library, settings: Settings) -> list[str]:
    """A line for each exception that excepts nothing of what rules of the library, or risk, tell."""
    from m365watch.detection.alerts.alert_exceptions import list_unknown

    rules = library.with_risk(settings.detections.risk_points).rules
    return list_unknown(exceptions, rules, tenants={one.tenant_id for one in settings.tenants})


class Unread(NamedTuple):
    """A file or folder of the user's own that a run does without."""

    line: str
    """As the mistakes of rules and exceptions name it."""
    is_closed: bool
    """Whether it is this user who may not read it; else it is not there."""


def list_unread(settings: DetectionsSection) -> list[Unread]:
    """The user's own rules and exceptions that are not there, or that this user may not read."""
    from m365watch.detection.rules.rule_library import NO_PLACE

    found = [one for place in settings.rules_directories for one in _unread_rules(place, NO_PLACE)]
    exceptions = settings.exceptions_file
    if exceptions is not None:
        reason = why_unread(exceptions)
        if reason or not is_there(exceptions):
            found.append(Unread(f"{exceptions}: {reason or NO_FILE}", is_closed=bool(reason)))
    return found


def _unread_rules(place: Path, absent: str) -> Iterator[Unread]:
    from m365watch.detection.rules.rule_library import list_rule_files

    if not is_there(place):
        closed = why_closed(place)
        yield Unread(f"{place}: {closed or absent}", is_closed=bool(closed))
        return
    files, folders = list_rule_files(place)
    yield from (Unread(f"{one}: {closed_to()}", is_closed=True) for one in folders)
    for path in files:
        if reason := why_unread(path):
            yield Unread(f"{path.relative_to(place.parent)}: {reason}", is_closed=True)


class RunDetections(NamedTuple):
    """The detections of a run."""

    output: DetectionOutput
    rules: OwnRules

    def change(self, settings: DetectionsSection) -> None:
        """Go by these settings as soon as the rules that they name are read."""
        self.rules.change(settings)
        self.output.reread()


def make_detections(
    settings: Settings, *, queues: Path, clock: Clock, current: Callable[[], Settings], once: bool = False
) -> RunDetections | None:
    """The output that takes every record past the rules, where that is switched on.

    Nothing is imported and nothing read where it is not; what waited for it in `queues` is let go of then,
    for nobody else has a use for it. `current` are the settings as they are later: tenants come and go.
    A run that ends by itself, with `once`, waits for a lost file to be made anew before it begins.
    """
    detections = settings.detections
    if not detections.enabled:
        if (queues / DETECTIONS).exists():
            from shutil import rmtree

            rmtree(queues / DETECTIONS, ignore_errors=True)
        return None
    from m365watch.detection.alerts.alert_logger import AlertTeller
    from m365watch.detection.detection_output import DetectionOutput, Surroundings

    own = OwnRules(detections, clock, current=current)
    output = DetectionOutput(
        DETECTIONS,
        settings.state_directory,
        rules=own.begin,
        clock=clock,
        knowledge=own.knowledge,
        exceptions=own.read_exceptions(),
        risk_points=detections.risk_points,
        tell=AlertTeller(clock),
        engine=own.make_engine,
        around=Surroundings(
            shelves=make_shelves(settings, current=current, clock=clock),
            rebuilder=make_rebuilder(settings, clock=clock, once=once),
            rule_files=None if once else own,
            watches_files=settings.watches_configuration,
        ),
    )
    return RunDetections(output, own)


def make_shelves(settings: Settings, *, current: Callable[[], Settings], clock: Clock) -> list[Shelf]:
    """The lakes, each with the alerts of the tenants whose records it gets, as `current` settings have it."""
    lakes = [output for output in settings.outputs if isinstance(output, LakeSection)]
    if not lakes:
        return []
    from m365watch.detection.store.alert_table import AlertShelf

    def takes(lake: str, tenant: str) -> bool:
        return lake not in current().excluded_outputs.get(TenantId(tenant), frozenset())

    return [
        AlertShelf(
            lake.name,
            lake.folder,
            writer=settings.collector_name,
            clock=clock,
            takes=partial(takes, lake.name),
        )
        for lake in lakes
    ]


def lakes_of(settings: Settings) -> list[Path]:
    """Where the lakes of the outputs are."""
    return [output.folder for output in settings.outputs if isinstance(output, LakeSection)]


def make_rebuilder(settings: Settings, *, clock: Clock, once: bool) -> LakeRebuilder:
    """What makes the file of detections anew out of the lakes."""
    from m365watch.detection.alert_store_rebuild import LakeRebuilder
    from m365watch.detection.detection_output import FILE_NAME

    return LakeRebuilder(
        partial(rebuild_asked, settings),
        lakes=lakes_of(settings),
        path=settings.state_directory / FILE_NAME,
        clock=clock,
        is_waited_for=once,
    )


def rebuild_asked(settings: Settings, rules: Sequence[Rule]) -> RebuildAsked:
    """What the file of detections is made of: these rules, with all that correlations join."""
    from m365watch.detection.alert_store_rebuild import RebuildAsked
    from m365watch.detection.detection_output import FILE_NAME

    exceptions, _ = load_exceptions(settings.detections)
    return RebuildAsked(
        settings.state_directory / FILE_NAME,
        tuple(lakes_of(settings)),
        rules,
        _digest_of(settings.detections),
        knowledge=knowledge_of(settings.detections),
        exceptions=exceptions,
    )


def rebuild_by_hand(settings: Settings, *, clock: Clock, progress: Callable[[int, int], None]) -> Rebuilt:
    """Make the file of detections anew while no collector runs.

    Raises: SettingsRefused: there is no lake. LedgerHeld: a collector runs. LakeMissing; OutputUnavailable.
    """
    from m365watch.detection.alert_store_rebuild import Rebuild, lakes_present
    from m365watch.detection.correlation.risk_score import risk_rules
    from m365watch.lake.schema import AUDIT

    lakes = lakes_of(settings)
    if not lakes:
        fix = "add an output of type lake: the detections are made of what is in one"
        raise SettingsRefused(["no output is a lake"], where=str(settings.path), fix=fix)
    if not lakes_present(lakes, table=AUDIT):
        raise LakeMissing("there is no lake here", fix="run `m365watch run` first", where=str(lakes[0]))
    rules = [*_rules_in_force(settings.detections), *risk_rules(settings.detections.risk_points)]
    settings.state_directory.mkdir(parents=True, exist_ok=True)
    lock = LedgerLock(settings.state_directory / LOCK_FILE)
    lock.acquire()
    try:
        return Rebuild(rebuild_asked(settings, rules), clock=clock, progress=progress).run()
    finally:
        lock.release()


def bring_by_hand(settings: Settings, *, clock: Clock) -> str | None:
    """Bring what was decided of alerts to the lakes where no collector does; why that cannot be done."""
    from m365watch.detection.alerts.lake_sync import Shelving
    from m365watch.detection.alerts.triage import opened
    from m365watch.detection.detection_output import FILE_NAME

    lock = settings.state_directory / LOCK_FILE
    try:
        if not lakes_of(settings) or (lock.exists() and holder_of(lock)):
            return None
        with opened(settings.state_directory / FILE_NAME, looks_only=False) as state:
            shelves = make_shelves(settings, current=lambda: settings, clock=clock)
            brought = Shelving(state, shelves).bring()
    except (CollectorError, OSError) as error:
        return error.what if isinstance(error, CollectorError) else f"the lake is not told: {error}"
    return None if brought.is_done else "other upkeep is at work in the lake"


def _digest_of(settings: DetectionsSection) -> str:
    """Changes with all that alerts depend on beside records."""
    digest = hashlib.blake2s(__version__.encode())
    plain = (settings.packs, settings.risk_points, sorted(settings.accepted_domains))
    digest.update(repr(plain).encode())
    for path in files_of(settings):
        digest.update(str(path).encode())
        with suppress(OSError):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def files_of(settings: DetectionsSection) -> list[Path]:
    """The user's own files: rules, their lists, and the exceptions."""
    from m365watch.detection.rules.rule_library import list_read_files

    files = [path for place in settings.rules_directories for path in list_read_files(place)]
    return [*files, settings.exceptions_file] if settings.exceptions_file else files


class OwnRules:
    """What rules and exceptions are in force, and what they may know: while a run lasts, it is read again."""

    def __init__(
        self, settings: DetectionsSection, clock: Clock, *, current: Callable[[], Settings] | None = None
    ) -> None:
        """Nothing is read yet. By `current` settings it is told of exceptions that can never hold."""
        self._settings = settings
        self._clock = clock
        self._current = current
        self._known = frozenset[str]()
        self.knowledge = knowledge_of(settings, clock=clock, tell=_tell_of_file)

    def change(self, settings: DetectionsSection) -> None:
        """Go by these settings from the next reading on."""
        known = (self._settings.enrich, self._settings.accepted_domains)
        if known != (settings.enrich, settings.accepted_domains):
            from m365watch.detection.enrichment.context_loader import go_on_from

            made = knowledge_of(settings, clock=self._clock, tell=_tell_of_file)
            self.knowledge = go_on_from(self.knowledge, made)
        self._settings = settings

    def make_engine(
        self, rules: Sequence[Rule], state: DetectionState, *, knowledge: Knowledge, exceptions: Exceptions
    ) -> Detects:
        """An engine that leaves the work to another process where there is a core for it."""
        from m365watch.detection.engine.detection_engine import Engine
        from m365watch.detection.engine.engine_process import AsideEngine, spare_cores

        if spare_cores() < 1:
            return Engine(rules, state, knowledge=knowledge, exceptions=exceptions)
        recipe = partial(knowledge_of, self._settings)
        return AsideEngine(rules, state, knowledge=knowledge, exceptions=exceptions, recipe=recipe)

    def read_exceptions(self) -> Exceptions:
        """The exceptions that a run begins with; what is wrong with their file is told once, here."""
        exceptions, lines = load_exceptions(self._settings)
        for line in lines[:MISTAKES_TOLD_MAX]:
            _log.warning(f"detections: {line}; what it would except is told")
        self._known |= frozenset(lines)
        return exceptions

    def begin(self) -> Sequence[Rule]:
        """The rules that a run begins with; what is wrong with the others is told once, here."""
        library = load_rules(self._settings)
        self._known |= frozenset(map(str, library.mistakes))
        _tell_mistakes(library)
        self._tell_vain(library, load_exceptions(self._settings)[0])
        return library.rules

    def look(self) -> str:
        """Paths, sizes and times of the files."""
        digest = hashlib.blake2s()
        for path in files_of(self._settings):
            with suppress(OSError):
                found = path.stat()
                digest.update(f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def read(self) -> RulesRead | None:
        """What they say now; None, and a line for each, where they have mistakes that they did not have."""
        from m365watch.detection.detection_output import RulesRead

        library = load_rules(self._settings)
        exceptions, lines = load_exceptions(self._settings)
        mistakes = [*map(str, library.mistakes), *lines]
        new = [line for line in mistakes if line not in self._known]
        for line in new[:MISTAKES_TOLD_MAX]:
            _log.error(f"detections: {line}")
        if new:
            _log.error(
                "detections: nothing is changed, and the rules stay in force as they were; correct"
                " what is named: the files are read again once they are saved"
            )
            return None
        self._known = frozenset(mistakes)
        count, own = len(library.rules), len(exceptions.every)
        _log.info(
            f"detections: rules and exceptions are read again; rules in force: {count:,}, exceptions: {own:,}"
        )
        self._tell_vain(library, exceptions)
        return RulesRead(library.rules, exceptions, self.knowledge, self._settings.risk_points)

    def _tell_vain(self, library: Library, exceptions: Exceptions) -> None:
        """Of each exception that can never hold, that it does not."""
        lines = list_vain(exceptions, library, self._current()) if self._current else []
        for line in lines[:MISTAKES_TOLD_MAX]:
            _log.warning(f"detections: {line}")


def _rules_in_force(settings: DetectionsSection) -> Sequence[Rule]:
    """The rules; each one that is left out is told."""
    library = load_rules(settings)
    _tell_mistakes(library)
    return library.rules


def _tell_mistakes(library: Library) -> None:
    for mistake in library.mistakes[:MISTAKES_TOLD_MAX]:
        _log.warning(f"detections: {mistake}; {mistake.follows}")
    more = len(library.mistakes) - MISTAKES_TOLD_MAX
    if more > 0:
        _log.warning(f"detections: {more:,} more mistakes; `m365watch rules validate` names them")
    _log.debug(f"detections: {len(library.rules):,} rules are in force")


def mistakes_of(settings: DetectionsSection) -> list[str]:
    """What is wrong with rules and exceptions, a line for each; nothing where detections are off."""
    if not settings.enabled:
        return []
    _, lines = load_exceptions(settings)
    return [*map(str, load_rules(settings).mistakes), *lines]
