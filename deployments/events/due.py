"""What is due for a night: the state on disk compared with what has run.

:func:`due` decides from what :mod:`deployments.events.decisions` has read, and changes nothing. The table in
``docs/architecture.md`` (Decisions about nights) states the same rules.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from blocks.night_runs import PROCESS, RANK, NightRun
from blocks.nights import NightRecord

PATIENCE_S = 900.0
"""Time without a new exposure after which a night is processed without its missing exposures."""

ATTEMPTS = 3
"""Number of crashed runs in succession after which no further one is created."""

COVERED = ("running", "completed", "failed")
"""Ends of runs that account for the exposures that they found."""


@dataclass(frozen=True, slots=True)
class RankedList:
    """What the ranked list of a night was made with.

    Attributes
    ----------
    skymap_hash
        Hash of the sky map.
    retracted
        Whether it states that the event is retracted.
    """

    skymap_hash: str
    retracted: bool = False


@dataclass(frozen=True, slots=True)
class NightState:
    """All that a decision about a night depends on.

    Attributes
    ----------
    record
        The latest revision of the night.
    runs
        Its recorded runs, in order of their start. ``running`` ones are alive.
    at_hand
        Listed exposures whose raw files are complete.
    completed
        Exposures whose raw files were not whole when a run found them, and are now.
    followed
        Late exposures for which runs of their own were created.
    quiet_s
        Seconds since the last of these.
    ranked
        The ranked list; None if there is none.
    retracted
        Whether the event is retracted.
    waiting
        Flows with a run on the server that has neither ended nor started its record.
    """

    record: NightRecord
    runs: Sequence[NightRun] = ()
    at_hand: frozenset[int] = frozenset()
    completed: frozenset[int] = frozenset()
    followed: frozenset[int] = frozenset()
    quiet_s: float = float("inf")
    ranked: RankedList | None = None
    retracted: bool = False
    waiting: frozenset[str] = frozenset()

    def runs_of(self, flow: str) -> list[NightRun]:
        """Return the recorded runs of a flow, in order of their start."""
        return [run for run in self.runs if run.flow == flow]

    def is_active(self, flow: str) -> bool:
        """Whether a run of a flow waits or is running."""
        return flow in self.waiting or any(run.end == "running" for run in self.runs_of(flow))


@dataclass(frozen=True, slots=True)
class Due:
    """The runs to create for a night.

    Attributes
    ----------
    process, rank
        Whether a run of ``process-night`` or ``rank-night`` is due.
    exposures
        Late exposures to process at once.
    n_awaited
        Number of listed exposures that have not arrived.
    held
        Why nothing more is created although the night is not done; empty if nothing is held.
    """

    process: bool = False
    rank: bool = False
    exposures: frozenset[int] = field(default_factory=frozenset)
    n_awaited: int = 0
    held: str = ""

    def __bool__(self) -> bool:
        """Whether any run is due."""
        return self.process or self.rank or bool(self.exposures)


def due(state: NightState) -> Due:
    """Return the runs that are due for a night.

    ``process-night`` is due if no run has started with the present exposure list, if the last one crashed, or if
    exposures have arrived, or become whole, since it started and no more are awaited. ``rank-night`` is due if the list
    was made with another sky map, or before the event was retracted. A run that a person has cancelled is not repeated
    for the same revision. While a run waits for its start nothing is due, because it reads the newest state when it
    starts.
    """
    record = state.record
    if not record.exposures:  # registered before its first exposure has arrived
        return Due()
    listed = {*record.exposures, *record.templates}
    covered = {
        expnum
        for run in state.runs_of(PROCESS)
        if run.end in COVERED
        for expnum in {*run.exposures} - (state.completed & {*run.partial})
    }
    late = (state.at_hand & listed) - covered
    n_awaited = len(listed - covered - state.at_hand)
    if PROCESS in state.waiting:
        return Due(n_awaited=n_awaited)
    if state.is_active(PROCESS):
        return Due(exposures=frozenset(late - state.followed), n_awaited=n_awaited)
    current = [run for run in state.runs_of(PROCESS) if run.revision >= record.list_revision]
    process, held = _is_again_due(current, "night")
    exposures: frozenset[int] = frozenset()
    if not process and not held and late:
        exposures = frozenset(late - state.followed)
        process = not n_awaited or (not exposures and state.quiet_s >= PATIENCE_S)
    if process:
        return Due(process=True, exposures=exposures, n_awaited=n_awaited)
    rank, held_rank = _rank_is_due(state)
    return Due(rank=rank, exposures=exposures, n_awaited=n_awaited, held=held or held_rank)


def due_together(states: Mapping[int, NightState]) -> dict[int, Due]:
    """Return the runs that are due for each of several nights; those of retracted events give way to the others."""
    decisions = {number: due(state) for number, state in states.items()}
    others = [state for state in states.values() if not state.retracted]
    if not any(is_wanted(state) or state.is_active(PROCESS) for state in others):
        return decisions
    held = "the event was retracted; waits until the other nights are processed"
    for number, state in states.items():
        if state.retracted and decisions[number].process:
            decisions[number] = replace(decisions[number], process=False, exposures=frozenset(), held=held)
    return decisions


def is_wanted(state: NightState) -> bool:
    """Whether a run of ``process-night`` is due or waits for a night whose event was not retracted."""
    return not state.retracted and (due(state).process or PROCESS in state.waiting)


def _is_again_due(runs: Sequence[NightRun], what: str) -> tuple[bool, str]:
    """Whether a run is due after earlier ones for the same state; if not because of how they ended, the reason."""
    if not runs or runs[-1].end == "deferred":
        return True, ""
    if runs[-1].end == "cancelled":
        return False, f"cancelled; start it by hand, or register a new revision of the {what}"
    crashed = _crashed_last(runs)
    if crashed >= ATTEMPTS:
        return False, f"crashed {crashed} times in succession; see the log of run {runs[-1].run}, then start it by hand"
    return crashed > 0, ""


def _crashed_last(runs: Iterable[NightRun]) -> int:
    count = 0
    for run in runs:
        count = count + 1 if run.end == "crashed" else 0
    return count


def _rank_is_due(state: NightState) -> tuple[bool, str]:
    wanted = RankedList(state.record.skymap_hash, state.retracted)
    if state.ranked in (None, wanted) or state.is_active(RANK):
        return False, ""
    tried = [
        run for run in state.runs_of(RANK) if (run.revision, run.retracted) == (state.record.revision, state.retracted)
    ]
    return _is_again_due(tried, "sky map")
