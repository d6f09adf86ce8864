"""Nominal cost of the steps of a night on one core, for estimates of a night of many exposures."""

from tasks.steps import CCD, CCDS_OF_EXPOSURE, EXPOSURE, NIGHT, NIGHT_STAGES, steps_of

STEPS = steps_of(*NIGHT_STAGES)

CCD_STEPS = {step.name: step.cpu_s for step in STEPS if step.mapped_over == CCD}
"""CPU seconds of the steps mapped over CCDs, for a full-size CCD."""

EXPOSURE_STEPS = {step.name: step.cpu_s for step in STEPS if step.mapped_over == EXPOSURE}
"""CPU seconds of the steps of whole exposures of 60 CCDs, including pictures."""

NIGHT_STEPS = {step.name: step.cpu_s for step in STEPS if step.mapped_over == NIGHT}
"""CPU seconds of the night's own steps."""

WHOLE_STEPS = EXPOSURE_STEPS | NIGHT_STEPS

CCDS = tuple(range(1, CCDS_OF_EXPOSURE + 1))
"""CCDs of a full exposure: the 60 functional ones."""

CCD_S = sum(CCD_STEPS.values())
"""Total CPU seconds per CCD of a search exposure."""

EXPOSURE_S = sum(EXPOSURE_STEPS.values())
"""Total CPU seconds of the steps of a whole search exposure."""

TASKS_PER_EXPOSURE = len(CCDS) * len(CCD_STEPS) + len(EXPOSURE_STEPS)
"""Number of task runs of a search exposure."""
