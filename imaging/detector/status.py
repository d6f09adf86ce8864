"""Which CCDs and amplifiers work, by date.

The original carried three different lists in its scripts and dropped CCD 2 for ever; here the facts stand with their
dates. A row of another camera failure goes here and nowhere else.
"""

from dataclasses import dataclass

from imaging.detector.ccds import SCIENCE_CCDS, AmplifierName


@dataclass(frozen=True, slots=True)
class Fault:
    """A period in which a CCD, or one amplifier of it, is not usable.

    Attributes
    ----------
    ccdnum
        CCD concerned.
    amplifier
        ``A`` or ``B``; None for the whole CCD.
    first_night, last_night
        Nights (YYYYMMDD) of the period, both inclusive.
    reason
        What happened.
    """

    ccdnum: int
    amplifier: AmplifierName | None
    first_night: int
    last_night: int
    reason: str

    def covers(self, night: int) -> bool:
        """Whether the fault exists on a night."""
        return self.first_night <= night <= self.last_night


FOREVER = 99991231

FAULTS: tuple[Fault, ...] = (
    Fault(61, None, 20121107, FOREVER, "damaged by over-illumination"),
    Fault(2, None, 20131130, 20161230, "stopped imaging"),
    Fault(31, "A", 20120912, FOREVER, "gain of the amplifier not constant"),
)
"""Known faults. CCD 2 works again from the end of December 2016."""


def faults_on(night: int) -> tuple[Fault, ...]:
    """Return the faults that exist on a night (YYYYMMDD)."""
    return tuple(fault for fault in FAULTS if fault.covers(night))


def dead_ccds(night: int) -> frozenset[int]:
    """Return the CCDs that give no image at all on a night."""
    return frozenset(fault.ccdnum for fault in faults_on(night) if fault.amplifier is None)


def working_ccds(night: int) -> tuple[int, ...]:
    """Return the science CCDs worth processing on a night, in order."""
    dead = dead_ccds(night)
    return tuple(ccd for ccd in SCIENCE_CCDS if ccd not in dead)


def bad_amplifiers(night: int, ccdnum: int) -> tuple[AmplifierName, ...]:
    """Return the unusable amplifiers of a CCD on a night."""
    return tuple(f.amplifier for f in faults_on(night) if f.ccdnum == ccdnum and f.amplifier is not None)
