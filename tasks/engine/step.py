"""A step: a plain function from a job to a result, and the Prefect task around it.

The function reads its own inputs, calls the science, writes its own products. :func:`step` makes it a Prefect task with
a readable name, retries for errors worth retrying, a time limit, and a cache that is checked against the products::

    @step(DETREND)
    def detrend(job: Job) -> StepResult:
        settings = job.settings_as(DetrendSettings)
        ...
        paths = job.product_paths(DETREND)
        write_planes(paths["image"], planes, header)
        return job.result(paths, quality={"sky_electrons": sky})

A flow maps it over CCDs and sees every job end, one way or the other::

    results, failures = split(map_step(detrend, jobs, overwrite=overwrite))

Called directly, ``detrend(job)`` is the plain function: no server, no retries, no cache.
"""

import importlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from httpx import TransportError
from prefect import Task, get_run_logger
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import exponential_backoff
from prefect.transactions import IsolationLevel

from blocks.site import Site
from imaging.errors import GWWorkflowError, NoWorkError, StorageError
from tasks.engine.cache import record_key, recorded_result
from tasks.engine.code_version import code_version
from tasks.engine.failures import note_failure
from tasks.engine.jobs import Failure, Job, Outcome, StepInfo, StepResult
from tasks.engine.limits import ResourceMeter, TimeLimit, slot
from tasks.engine.locks import FileLocks
from tasks.engine.outcomes import done_outcome, final_task_state, outcome_of
from tasks.engine.progress import SEVERAL, Progress, report
from tasks.engine.task_runner import ComputeTaskRunner

StepFunction = Callable[[Any], StepResult]
"""From a job, of the class that the project has for it, to a result."""

RETRIES = 3
"""Attempts after the first, for errors worth retrying."""

RETRY_DELAY_S = 1.0
"""Delay before the first retry; it doubles. It is slept in the worker, so it must be short."""

TIME_LIMIT_S = 1800.0
"""Wall-clock limit of a step, many times what the slowest takes."""

ALONE_DELAYS_S = (2.0, 20.0)
"""Delays before jobs that were lost are tried alone, so that what was wrong may pass: a server that is started again
takes 10 s. Those whose workers died, or had too little memory, are tried alone once."""


class Step:
    """A step of the processing: a plain function and the Prefect task around it.

    Parameters
    ----------
    info
        What it states of itself.
    function
        The step.
    limit
        The limit, of :mod:`tasks.engine.limits`, of which a task run holds a slot while it works; that costs two calls
        to the server. None if the step strains nothing that is shared.
    retries
        Attempts after the first.
    time_limit_s
        A Dask worker that is still at the step after this long is ended and the step tried once more. In the process of
        the flow the step is ended as soon as it comes back to Python, and not tried again.
    """

    def __init__(
        self,
        info: StepInfo,
        function: StepFunction,
        *,
        limit: str | None = None,
        retries: int = RETRIES,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self.info = info
        self.function = function
        self.limit = limit
        self.retries = retries
        self.time_limit_s = time_limit_s
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __call__(self, job: Job) -> StepResult:
        """Do the step as a plain function."""
        return self.function(job)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Travel to a worker by name, as functions do, rather than as a copy of code."""
        return _find_step, (self.function.__module__, self.__name__)

    @property
    def name(self) -> str:
        """Name of the step."""
        return self.info.name

    @property
    def code_version(self) -> str:
        """Version of the code behind the step."""
        return code_version((self.function.__module__, self.__name__))

    def key(self, job: Job) -> str:
        """Return the key of a job's record."""
        return record_key(self.info, self.code_version, job)

    def recorded(self, job: Job) -> StepResult | None:
        """Return the result of an earlier run whose products are intact; None if the step has to be done."""
        return recorded_result(job.site, self.key(job))

    def execute(self, job: Job) -> StepResult:
        """Do the step, measured, limited in time, with its place in every error; having nothing to do is a result."""
        logger = _logger()
        meter = ResourceMeter()
        try:
            with TimeLimit(self.time_limit_s, trace_of(job)):
                result = self.function(job)
        except NoWorkError as error:
            located = error.located(**job.place, step=self.name)
            result = StepResult(nothing_to_do=error.reason, notes=(located.sentence(),))
        except GWWorkflowError as error:
            raise error.located(**job.place, step=self.name) from error
        except Exception:
            logger.exception("%s: %s: unexpected error", job.label, self.name)
            raise
        cost = meter.read()
        logger.info(
            "%s: %s: %s in %.2f s CPU, %.0f MB",
            job.label,
            self.name,
            f"nothing to do ({result.nothing_to_do})" if result.nothing_to_do else "done",
            cost["total_cpu_s"],
            cost["peak_memory_mb"],
        )
        return result.model_copy(update={"step": self.name, **cost})

    @cached_property
    def task(self) -> Task[[Job], StepResult]:
        """The Prefect task, not yet bound to a site."""

        def run(job: Job) -> StepResult:
            with slot(self.limit):
                return self.execute(job)

        return Task(
            fn=run,
            name=self.name,
            description=self.__doc__,
            task_run_name=f"{self.name}-{{job.name}}",
            retries=self.retries,
            retry_delay_seconds=exponential_backoff(RETRY_DELAY_S),
            retry_jitter_factor=0.3,
            retry_condition_fn=retry_if_worth_it,
            persist_result=True,
            cache_result_in_memory=False,
            result_serializer="json",
            cache_policy=CacheKeyFnPolicy(cache_key_fn=self._cache_key, isolation_level=IsolationLevel.SERIALIZABLE),
        )

    def task_for(self, site: Site, *, overwrite: bool = False) -> Task[[Job], StepResult]:
        """Return the task with its records and locks in a site's state folder.

        Parameters
        ----------
        site
            The site.
        overwrite
            Recompute a cached step.
        """
        policy = cast("CacheKeyFnPolicy", self.task.cache_policy)
        return self.task.with_options(
            cache_policy=policy.configure(lock_manager=FileLocks(site.state / "locks")),
            result_storage=site.records,
            refresh_cache=overwrite,
        )

    def _cache_key(self, context: TaskRunContext, parameters: dict[str, Any]) -> str:
        """Return the key for Prefect, after dropping a record whose products are gone."""
        job: Job = parameters["job"]
        key = self.key(job)
        if not context.task.refresh_cache:
            recorded_result(job.site, key)
        return key


def step(
    info: StepInfo,
    *,
    limit: str | None = None,
    retries: int = RETRIES,
    time_limit_s: float = TIME_LIMIT_S,
) -> Callable[[StepFunction], Step]:
    """Make a plain function a step; the arguments are those of :class:`Step`."""

    def decorate(function: StepFunction) -> Step:
        return Step(info, function, limit=limit, retries=retries, time_limit_s=time_limit_s)

    return decorate


def retry_if_worth_it(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whether an error may go away by itself: those of disk, locks and network may, bad input stays bad.

    Neither is want of memory tried again beside the same neighbours, nor a step that was past its time limit.
    """
    error = state.data
    return isinstance(error, StorageError | OSError | TransportError) and not isinstance(error, TaskRunTimeoutError)


def run_step(step: Step, job: Job, *, overwrite: bool = False) -> Outcome:
    """Do one step that is not mapped: on a worker, or in the process of the flow if the step says so.

    Parameters
    ----------
    step
        The step.
    job
        The job.
    overwrite
        Recompute a cached step.

    Returns
    -------
    outcome
        Result or failure; no error of the step is raised.
    """
    known = None if overwrite else step.recorded(job)
    outcome = done_outcome(job, known, cached=True) if known is not None else _run_one(step, job, overwrite=overwrite)
    note_failure(step.name, job, outcome.failure)
    report(Progress(step.name, job.subject, 1, 1, int(outcome.failure is not None), int(outcome.cached)))
    return outcome


def _run_one(step: Step, job: Job, *, overwrite: bool) -> Outcome:
    task = step.task_for(job.site, overwrite=overwrite)
    if step.info.runs_in_flow or ComputeTaskRunner.current() is None:
        return outcome_of(job, task.with_options(timeout_seconds=step.time_limit_s)(job, return_state=True))
    outcomes: dict[int, Outcome] = {}
    _submit(task, [job], outcomes, outcomes.__setitem__, ahead=True)
    return outcomes[0]


def map_step(step: Step, jobs: Sequence[Job], *, overwrite: bool = False) -> list[Outcome]:
    """Do one step for many jobs, on the task runner of the flow.

    Cached results need no task run: if everything is cached, no cluster is started. A job that fails, in whatever way,
    costs itself only. Those that ran out of memory, or whose workers died, are tried again one at a time, with nothing
    else running and with more memory.

    Parameters
    ----------
    step
        The step.
    jobs
        The jobs, all of one site.
    overwrite
        Recompute cached steps.

    Returns
    -------
    outcomes
        One per job, in the order of the jobs; no error of a step is raised.
    """
    if not jobs:
        return []
    outcomes: dict[int, Outcome] = {}
    failed: set[int] = set()
    cached: set[int] = set()
    subject = jobs[0].subject if len({job.subject for job in jobs}) == 1 else SEVERAL

    def end(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        for those, is_one in ((failed, outcome.failure is not None), (cached, outcome.cached)):
            (those.add if is_one else those.discard)(number)
        report(Progress(step.name, subject, len(outcomes), len(jobs), len(failed), len(cached)))

    for number, job in enumerate(jobs):
        known = None if overwrite else step.recorded(job)
        if known is not None:
            end(number, done_outcome(job, known, cached=True))
    if outcomes:
        _flow_logger().info("%s: %d of %d jobs of %s are cached", step.name, len(outcomes), len(jobs), subject)
    if len(outcomes) < len(jobs):
        _submit(step.task_for(jobs[0].site, overwrite=overwrite), jobs, outcomes, end)
    for outcome in outcomes.values():
        note_failure(step.name, outcome.job, outcome.failure)
    return [outcomes[number] for number in range(len(jobs))]


def _submit(
    task: Task[[Job], StepResult],
    jobs: Sequence[Job],
    outcomes: Mapping[int, Outcome],
    end: Callable[[int, Outcome], None],
    *,
    ahead: bool = False,
) -> None:
    """Do the jobs that have no outcome yet; those whose workers died or had too little memory once more, alone."""
    with on_the_cluster(ahead=ahead):
        futures = {number: task.submit(job) for number, job in enumerate(jobs) if number not in outcomes}
        for number, future in futures.items():
            end(number, outcome_of(jobs[number], final_task_state(future)))
    for attempt, delay_s in enumerate(ALONE_DELAYS_S):
        lost = [number for number in futures if is_worth_being_alone(outcomes[number], attempt)]
        if not lost:
            return
        _flow_logger().warning("%s: %d jobs are tried again alone, with more memory", task.name, len(lost))
        time.sleep(delay_s)
        with on_the_cluster(alone=True):
            for number in lost:
                outcome = outcome_of(jobs[number], final_task_state(task.submit(jobs[number])))
                end(number, outcome.amended("tried again alone, with more memory"))


def is_worth_being_alone(outcome: Outcome, attempt: int) -> bool:
    """Whether a job that was lost, or ran out of memory, may come through alone.

    Parameters
    ----------
    outcome
        How it has ended so far.
    attempt
        How often it was tried alone.
    """
    failure = outcome.failure
    if failure is None or failure.kind not in ("memory", "lost") or failure.reason == "time_limit":
        return False
    return attempt == 0 or failure.reason == "lost"


@contextmanager
def on_the_cluster(*, alone: bool = False, ahead: bool = False) -> Iterator[None]:
    """Use the cluster of the run, with the run's other flows, ahead of their mapped jobs, or alone.

    Task runners of other classes have no such cluster; then nothing is done.
    """
    runner = ComputeTaskRunner.current()
    if runner is None:
        yield
        return
    with runner.alone() if alone else runner.together(ahead=ahead):
        yield


def split(outcomes: Iterable[Outcome]) -> tuple[dict[int, StepResult], dict[int, Failure]]:
    """Separate outcomes into results and failures, by the number of their unit."""
    results: dict[int, StepResult] = {}
    failures: dict[int, Failure] = {}
    for outcome in outcomes:
        unit = outcome.unit or 0
        if outcome.result is not None:
            results[unit] = outcome.result
        elif outcome.failure is not None:
            failures[unit] = outcome.failure
    return results, failures


def trace_of(job: Job) -> Path:
    """Return the file in which a process leaves where it was when the current task run's time was up."""
    context = TaskRunContext.get()
    name = str(context.task_run.id) if context else job.name
    return job.site.state / "stuck" / f"{name}.txt"


def _flow_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the flow run's logger; outside of a run, a plain one."""
    return get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the run's logger, whose lines appear in the UI; outside of a run, a plain one."""
    return get_run_logger() if TaskRunContext.get() else logging.getLogger(__name__)


def _find_step(module: str, name: str) -> Step:
    return getattr(importlib.import_module(module), name)
