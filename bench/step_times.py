"""What the steps of a night cost on one core by what they state, for estimates of a night of many exposures."""

from tasks.steps import CCD, CCDS_OF_EXPOSURE, EXPOSURE, NIGHT, NIGHT_STAGES, steps_of

STEPS = steps_of(*NIGHT_STAGES)

CCD_STEPS = {step.name: step.cpu_s for step in STEPS if step.mapped_over == CCD}
"""CPU seconds that a full-size CCD takes."""

EXPOSURE_STEPS = {step.name: step.cpu_s for step in STEPS if step.mapped_over == EXPOSURE}
"""CPU seconds that a whole exposure of 60 CCDs takes, pictures included."""

NIGHT_STEPS = {step.name: step.cpu_s for step in STEPS if step.mapped_over == NIGHT}
"""CPU seconds of the night's own steps."""

WHOLE_STEPS = EXPOSURE_STEPS | NIGHT_STEPS

CCDS = tuple(range(1, CCDS_OF_EXPOSURE + 1))
"""A full exposure: the 60 CCDs that work."""

CCD_S = sum(CCD_STEPS.values())
"""Science of a CCD of a search exposure, all steps together."""

EXPOSURE_S = sum(EXPOSURE_STEPS.values())
"""Science of an exposure as a whole, on a worker."""

TASKS_PER_EXPOSURE = len(CCDS) * len(CCD_STEPS) + len(EXPOSURE_STEPS)
"""Task runs of a search exposure, all steps together."""
