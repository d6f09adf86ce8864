"""Run the steps of a stage and collect results, failures and cost."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from prefect.client.schemas.objects import State

from imaging.errors import CcdError, GWWorkflowError, InputError, StorageError
from tasks.engine.failures import note_failure
from tasks.engine.final_state import final_state
from tasks.engine.jobs import Failure, Job, Outcome, StepInfo, StepResult
from tasks.engine.outcomes import failure_of
from tasks.engine.step import Step, map_step, run_step, split

AnyJob = TypeVar("AnyJob", bound=Job)


class Stage:
    """One run of a stage: results, failures per unit (CCD) and cost of its steps.

    Parameters
    ----------
    name
        Name of the stage.
    about
        A job without a unit, which identifies site and subject.
    overwrite
        Recompute cached steps.
    """

    def __init__(self, name: str, about: Job, *, overwrite: bool) -> None:
        self.name = name
        self.about = about
        self.overwrite = overwrite
        self.failures: dict[int, Failure] = {}
        self.failed_at: dict[int, str] = {}
        self.others: dict[str, Failure] = {}
        self.cpu_s: dict[str, float] = {}
        self.notes: list[str] = []
        self.n_cached = 0
        self.n_computed = 0

    def plan(self, step: StepInfo, units: Collection[int], make_job: Callable[[int], AnyJob]) -> list[AnyJob]:
        """Create the jobs of some units; a unit whose job cannot be created is recorded as failed.

        Raises
        ------
        InputError
            If no job can be created because the input of every unit is wrong.
        """
        jobs: list[AnyJob] = []
        errors: dict[int, GWWorkflowError] = {}
        for unit in units:
            try:
                jobs.append(make_job(unit))
            except (CcdError, InputError, StorageError) as error:
                errors[unit] = error.located(**self.about.at_unit(unit).place, step=step.name)
        if errors and not jobs and all(isinstance(error, InputError) for error in errors.values()):
            raise next(iter(errors.values()))
        for unit, found in errors.items():
            failure = failure_of(found, found.sentence())
            note_failure(step.name, self.about.at_unit(unit), failure)
            self.miss(unit, step.name, failure)
        return jobs

    def map(self, step: Step, jobs: Sequence[Job], *, optional: bool = False) -> dict[int, StepResult]:
        """Run a mapped step; return the results by unit, without the failures, which are recorded.

        Parameters
        ----------
        step, jobs
            Step and jobs.
        optional
            Whether units whose data do not suffice go on without a result: a note of the run, not a failure.
        """
        outcomes = map_step(step, jobs, overwrite=self.overwrite)
        for outcome in outcomes:
            self._note(step.name, outcome)
        results, failures = split(outcomes)
        for unit, failure in failures.items():
            if optional and failure.kind == "ccd":
                self.notes.append(failure.message)
            else:
                self.miss(unit, step.name, failure)
        return results

    def map_all(self, step: Step, jobs: Sequence[Job]) -> list[StepResult]:
        """Run a step mapped over units of several subjects; return the results without the failures."""
        outcomes = map_step(step, jobs, overwrite=self.overwrite)
        for outcome in outcomes:
            self._note(step.name, outcome)
            if outcome.failure is not None:
                self.others[f"{step.name} {outcome.job.label}"] = outcome.failure
        return [outcome.result for outcome in outcomes if outcome.result is not None]

    def run(self, step: Step, job: Job, units: Collection[int]) -> StepResult | None:
        """Run a step that is not mapped; if it fails, return None and record its failure for all ``units``."""
        outcome = run_step(step, job, overwrite=self.overwrite)
        self._note(step.name, outcome)
        if outcome.failure is not None:
            for unit in units:
                self.miss(unit, step.name, outcome.failure)
            if not units:
                self.others[f"{step.name} {job.label}"] = outcome.failure
        return outcome.result

    def miss(self, unit: int, step: str, failure: Failure) -> None:
        """Record a failure of a unit at a step."""
        self.failures[unit] = failure
        self.failed_at[unit] = step

    def final_state(self, done: Collection[int], **more: Any) -> State[dict[str, Any]]:  # noqa: ANN401
        """Return the final state of the stage.

        Parameters
        ----------
        done
            Units that passed all steps.
        more
            JSON entries to add to the summary.
        """
        return final_state(self.about.label, sorted(done), self.failures, summary=self.summary(done) | more)

    def summary(self, done: Collection[int]) -> dict[str, Any]:
        """Return the summary of the stage, JSON."""
        return {
            "stage": self.name,
            "done": sorted(done),
            "failures": {
                str(unit): {"step": self.failed_at[unit]} | failure.model_dump()
                for unit, failure in sorted(self.failures.items())
            },
            "cpu_s": {step: round(seconds, 3) for step, seconds in self.cpu_s.items()},
            "n_computed": self.n_computed,
            "n_cached": self.n_cached,
            "notes": self.notes,
        }

    def _note(self, step: str, outcome: Outcome) -> None:
        if outcome.cached:
            self.n_cached += 1
        else:
            self.n_computed += 1
        if outcome.result is not None:
            if not outcome.cached:
                self.cpu_s[step] = self.cpu_s.get(step, 0.0) + outcome.result.total_cpu_s
            self.notes.extend(outcome.result.notes)
