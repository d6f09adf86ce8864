"""How long the steps of the processing take on one core, for what is said about a night of many exposures."""

CCD_STEPS = {
    "detrend": 0.47,
    "measure": 2.48,
    "calibrate": 0.22,
    "inspect": 0.07,
    "difference": 3.29,
    "force": 0.07,
}
"""CPU seconds that a full-size CCD takes, as ``python -m bench.chain`` measures them."""

WHOLE_STEPS = {
    "fit_sky": 0.05,
    "tie": 1.4,
    "solve": 0.34,
    "verify": 0.6,
    "choose_templates": 0.1,
    "gather": 0.15,
    "associate": 5.0,
    "rank": 10.0,
}
"""CPU seconds that a whole exposure of 60 CCDs takes on one core, pictures included, and the night's own two steps in
the process of the flow."""

NIGHT_STEPS = ("associate", "rank")

EXPOSURE_STEPS = {name: seconds for name, seconds in WHOLE_STEPS.items() if name not in NIGHT_STEPS}

CCDS = tuple(range(1, 61))
"""A full exposure: the 60 CCDs that work."""

CCD_S = sum(CCD_STEPS.values())
"""Science of a CCD of a search exposure, all steps together."""

EXPOSURE_S = sum(EXPOSURE_STEPS.values())
"""Science of an exposure as a whole, on a worker."""

TASKS_PER_EXPOSURE = len(CCDS) * len(CCD_STEPS) + len(EXPOSURE_STEPS)
"""Task runs of a search exposure, all steps together."""
