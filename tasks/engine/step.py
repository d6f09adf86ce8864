"""A step: a plain function from a job to a result, and the Prefect task around it.

The function reads its inputs, calls the science, and writes its products. :func:`step` makes it a Prefect task with a
readable name, retries of transient errors, a time limit, and a cache that is validated against the products::

    @step(DETREND)
    def detrend(job: Job) -> StepResult:
        settings = job.settings_as(DetrendSettings)
        ...
        paths = job.product_paths(DETREND)
        write_planes(paths["image"], planes, header)
        return job.result(paths, quality={"sky_electrons": sky})

A flow maps it over CCDs and gets the outcome of every job::

    results, failures = split(map_step(detrend, jobs, overwrite=overwrite))

Called directly, ``detrend(job)`` is the plain function: no server, no retries, no cache.
"""

import importlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from blocks.sharing import follow
from blocks.site import Site
from imaging.errors import GWWorkflowError, NoWorkError, StorageError
from imaging.kernel_cache import one_compiles
from imaging.memory import freed_memory_reused
from tasks.engine.cache import record_key, recorded_result
from tasks.engine.code_version import code_version
from tasks.engine.failures import note_failure
from tasks.engine.jobs import Failure, Job, Outcome, StepInfo, StepResult
from tasks.engine.limits import ResourceMeter, TimeLimit, slot
from tasks.engine.locks import FileLocks
from tasks.engine.lone_run import lone_logger, lone_run
from tasks.engine.machine import machine_errors
from tasks.engine.outcomes import (
    done_outcome,
    final_task_state,
    has_lost_its_scheduler,
    is_worth_being_alone,
    outcome_of,
)
from tasks.engine.progress import SEVERAL, Progress, report
from tasks.engine.records import StepRecords
from tasks.engine.replay import require_records
from tasks.engine.task_runner import ComputeTaskRunner, on_the_cluster, runs_here
from tasks.engine.tidied import bring_back, note_producer

StepFunction = Callable[[Any], StepResult]
"""A function of a job, of the project's subclass, that returns a result."""

RETRIES = 3
"""Retries of transient errors."""

RETRY_DELAY_S = 1.0
"""Delay before the first retry, seconds, doubled each time. It is short because it blocks the worker."""

TIME_LIMIT_S = 1800.0
"""Wall-clock limit of a step, seconds; many times the duration of the slowest step."""

SCHEDULER_LOSSES = 3
"""How often the steps that ran when a running scheduler was lost are submitted again."""

ALONE_DELAYS_S = (2.0, 20.0)
"""Delays in seconds before lost jobs are retried alone; a restart of the server takes 10 s. Jobs whose workers died or
ran out of memory are retried alone once."""


class Step:
    """A step of the pipeline: a plain function and the Prefect task around it.

    Parameters
    ----------
    info
        Name, stage, cost and products.
    function
        The function.
    limit
        Global concurrency limit of which a task run holds a slot, at the cost of two requests to the server; None if
        the step uses no shared resource.
    retries
        Retries of transient errors.
    time_limit_s
        Wall-clock limit, seconds. A Dask worker that exceeds it is terminated and the step retried once. In the flow's
        process the step is interrupted when it returns to Python, and not retried.
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
        """Run the step as a plain function."""
        with freed_memory_reused():
            return self.function(job)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name, as functions are, instead of by value."""
        return _find_step, (self.function.__module__, self.__name__)

    @property
    def name(self) -> str:
        """Name of the step."""
        return self.info.name

    @property
    def code_version(self) -> str:
        """Version of the step's code, 32 hexadecimal digits."""
        return code_version((self.function.__module__, self.__name__))

    def key(self, job: Job) -> str:
        """Return the cache key of a job."""
        return record_key(self.info, self.code_version, job)

    def recorded(self, job: Job) -> StepResult | None:
        """Return the cached result of a job if its products are intact; None otherwise."""
        return recorded_result(job.site, self.key(job))

    def execute(self, job: Job) -> StepResult:
        """Run the step with measurement, time limit and located errors; ``NoWorkError`` becomes an empty result."""
        logger = run_logger()
        meter = ResourceMeter()
        try:
            with machine_errors(), TimeLimit(self.time_limit_s, trace_of(job)):
                result = self(job)
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
        """The Prefect task, without the result storage of a site."""

        def run(job: Job) -> StepResult:
            with one_compiles(f"{self.name}-{self.code_version}"), slot(self.limit):
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

    def task_for(self, site: Site, *, overwrite: bool = False, in_flow: bool = False) -> Task[[Job], StepResult]:
        """Return the task with result storage and locks in a site's state folder.

        Parameters
        ----------
        site
            The site.
        overwrite
            Recompute a cached step.
        in_flow
            Whether the task runs in the flow's process, where Prefect keeps its time limit.
        """
        require_records(self.name)
        policy = cast("CacheKeyFnPolicy", self.task.cache_policy)
        task = self.task.with_options(
            cache_policy=policy.configure(lock_manager=FileLocks(site.state / "locks")),
            refresh_cache=overwrite,
            timeout_seconds=self.time_limit_s if in_flow else None,
        )
        task.result_storage = StepRecords(basepath=str(site.records))  # as an option it would need a document
        return task

    def _cache_key(self, context: TaskRunContext, parameters: dict[str, Any]) -> str:
        """Return the cache key for Prefect, after deleting a record whose products are missing or damaged."""
        job: Job = parameters["job"]
        follow(job.site)  # before a worker locks and writes
        key = self.key(job)
        if not context.task.refresh_cache:
            recorded_result(job.site, key)
        return key


def step(
    info: StepInfo, *, limit: str | None = None, retries: int = RETRIES, time_limit_s: float = TIME_LIMIT_S
) -> Callable[[StepFunction], Step]:
    """Decorate a plain function as a step; the parameters are those of :class:`Step`."""

    def decorate(function: StepFunction) -> Step:
        return Step(info, function, limit=limit, retries=retries, time_limit_s=time_limit_s)

    return decorate


def retry_if_worth_it(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whether an error is transient: errors of disk, locks and network are; a timeout or a lack of memory is not."""
    error = state.data
    return isinstance(error, StorageError | OSError | TransportError) and not isinstance(error, TaskRunTimeoutError)


def run_step(step: Step, job: Job, *, overwrite: bool = False) -> Outcome:
    """Run one step that is not mapped: on a worker, or in the flow's process if ``info.runs_in_flow``.

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
        Result or failure; errors of the step are not raised.
    """
    known = None if overwrite else step.recorded(job)
    outcome = done_outcome(job, known, cached=True) if known is not None else _run_one(step, job, overwrite=overwrite)
    note_failure(step.name, job, outcome.failure)
    report(Progress(step.name, job.subject, 1, 1, int(outcome.failure is not None), int(outcome.cached)))
    return outcome


def _run_one(step: Step, job: Job, *, overwrite: bool) -> Outcome:
    in_flow = step.info.runs_in_flow or ComputeTaskRunner.current() is None or runs_here()
    task = step.task_for(job.site, overwrite=overwrite, in_flow=in_flow)
    if in_flow:
        return outcome_of(job, task(job, return_state=True))
    outcomes: dict[int, Outcome] = {}
    _submit(task, [job], outcomes, outcomes.__setitem__, ahead=True)
    return outcomes[0]


def map_step(step: Step, jobs: Sequence[Job], *, overwrite: bool = False) -> list[Outcome]:
    """Run one step for many jobs on the task runner of the flow.

    Cached results need no task run: if everything is cached, no cluster is started. A failed job does not affect the
    others. Jobs that ran out of memory, or whose workers died, are retried one at a time, with nothing else running and
    with more memory.

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
        One per job, in the order of the jobs; errors of the step are not raised.
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
            note_producer(step, job, known)
    if outcomes:
        run_logger().info("%s: %d of %d jobs of %s are cached", step.name, len(outcomes), len(jobs), subject)
    left = [number for number in range(len(jobs)) if number not in outcomes]
    if left:
        require_records(step.name)
    for place, failure in bring_back([jobs[number] for number in left], map_step).items():
        end(left[place], Outcome(jobs[left[place]], failure=failure))
    if len(outcomes) < len(jobs):
        _submit(step.task_for(jobs[0].site, overwrite=overwrite, in_flow=runs_here()), jobs, outcomes, end)
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
    """Run the jobs that have no outcome yet; retry those that were lost or ran out of memory, one at a time."""
    submitted = [number for number in range(len(jobs)) if number not in outcomes]
    if runs_here():
        for number in submitted:
            end(number, outcome_of(jobs[number], task(jobs[number], return_state=True)))
        return
    left = submitted
    for _ in range(1 + SCHEDULER_LOSSES):
        with on_the_cluster(ahead=ahead):
            futures = {number: task.submit(jobs[number]) for number in left}
            for number, future in futures.items():
                end(number, outcome_of(jobs[number], final_task_state(future)))
        left = [number for number in left if has_lost_its_scheduler(outcomes[number])]
        if not left:
            break
        run_logger().warning("%s: the scheduler was lost; submitting %d jobs again", task.name, len(left))
    for attempt, delay_s in enumerate(ALONE_DELAYS_S):
        lost = [number for number in submitted if is_worth_being_alone(outcomes[number], attempt)]
        if not lost:
            return
        run_logger().warning("%s: retrying %d jobs one at a time, with more memory", task.name, len(lost))
        time.sleep(delay_s)
        with on_the_cluster(alone=True):
            for number in lost:
                outcome = outcome_of(jobs[number], final_task_state(task.submit(jobs[number])))
                end(number, outcome.amended("after a retry alone, with more memory"))


def split(outcomes: Iterable[Outcome]) -> tuple[dict[int, StepResult], dict[int, Failure]]:
    """Split outcomes into (results, failures), each by unit number; 0 for jobs without a unit."""
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
    """Return the file for the traceback of the current task run if it exceeds its time limit."""
    context = TaskRunContext.get()
    name = str(context.task_run.id) if context else job.name
    return job.site.state / "stuck" / f"{name}.txt"


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the logger of the task or flow run, shown in the UI; outside of a run, the module's logger."""
    if TaskRunContext.get() or FlowRunContext.get():
        return get_run_logger()
    return lone_logger() if lone_run() else logging.getLogger(__name__)


def _find_step(module: str, name: str) -> Step:
    return getattr(importlib.import_module(module), name)
