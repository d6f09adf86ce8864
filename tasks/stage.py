"""Run the steps of a stage and keep account of them."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from prefect.client.schemas.objects import State

from imaging.errors import CcdError, GWWorkflowError, InputError, StorageError
from tasks.failures import note_failure
from tasks.records import Failure, Outcome, StepJob, StepResult
from tasks.seam import Step, map_ccds, run_step, split
from tasks.settling import failure_of
from tasks.verdict import verdict


class Stage:
    """The account of one stage: which CCDs are done, which failed where and why, what it cost.

    Parameters
    ----------
    name
        Name of the stage.
    about
        What it processes: a job without a CCD.
    overwrite
        Whether to do what is known to be done.
    """

    def __init__(self, name: str, about: StepJob, *, overwrite: bool) -> None:
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

    def plan(self, step: str, ccds: Collection[int], make_job: Callable[[int], StepJob]) -> list[StepJob]:
        """Make the jobs of some CCDs; a CCD for which none can be made is noted as failed at this step.

        Raises
        ------
        InputError
            If the input of every CCD is wrong: then it is not a CCD that is missing, and nothing is started.
        """
        jobs = []
        errors: dict[int, GWWorkflowError] = {}
        for ccd in ccds:
            try:
                jobs.append(make_job(ccd))
            except (CcdError, InputError, StorageError) as error:
                errors[ccd] = error.located(expnum=self.about.expnum, ccd=ccd, step=step)
        if errors and not jobs and all(isinstance(error, InputError) for error in errors.values()):
            raise next(iter(errors.values()))
        for ccd, found in errors.items():
            failure = failure_of(found, found.sentence())
            note_failure(step, self.about.model_copy(update={"ccd": ccd}), failure)
            self.miss(ccd, step, failure)
        return jobs

    def map(self, step: Step, jobs: Sequence[StepJob]) -> dict[int, StepResult]:
        """Do a step for every CCD; those that fail are noted and left out of what is returned."""
        outcomes = map_ccds(step, jobs, overwrite=self.overwrite)
        for outcome in outcomes:
            self._note(step.name, outcome)
        results, failures = split(outcomes)
        for ccd, failure in failures.items():
            self.miss(ccd, step.name, failure)
        return results

    def map_all(self, step: Step, jobs: Sequence[StepJob]) -> list[StepResult]:
        """Do a step for CCDs of several exposures; those that fail are noted and left out of what is returned."""
        outcomes = map_ccds(step, jobs, overwrite=self.overwrite)
        for outcome in outcomes:
            self._note(step.name, outcome)
            if outcome.failure is not None:
                self.others[f"{step.name} {outcome.job.label}"] = outcome.failure
        return [outcome.result for outcome in outcomes if outcome.result is not None]

    def run(self, step: Step, job: StepJob, ccds: Collection[int]) -> StepResult | None:
        """Do a step for a whole exposure or night; None if it fails, which then is the failure of all these CCDs."""
        outcome = run_step(step, job, overwrite=self.overwrite)
        self._note(step.name, outcome)
        if outcome.failure is not None:
            for ccd in ccds:
                self.miss(ccd, step.name, outcome.failure)
            if not ccds:
                self.others[f"{step.name} {job.label}"] = outcome.failure
        return outcome.result

    def miss(self, ccd: int, step: str, failure: Failure) -> None:
        """Note that a CCD goes no further, and why."""
        self.failures[ccd] = failure
        self.failed_at[ccd] = step

    def verdict(self, done: Collection[int], **more: Any) -> State[dict[str, Any]]:  # noqa: ANN401
        """Return the state in which the stage ends.

        Parameters
        ----------
        done
            CCDs that have come through.
        more
            Entries to add to the summary; they must be JSON.
        """
        return verdict(self.about.label, sorted(done), self.failures, summary=self.summary(done) | more)

    def summary(self, done: Collection[int]) -> dict[str, Any]:
        """Return the account as JSON."""
        return {
            "stage": self.name,
            "done": sorted(done),
            "failures": {
                str(ccd): {"step": self.failed_at[ccd]} | failure.model_dump()
                for ccd, failure in sorted(self.failures.items())
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
