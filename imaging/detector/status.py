"""Working and failed CCDs and amplifiers by date.

Faults are listed with their dates in the table ``data/faults.csv``; a new failure of the camera needs only a new row
there. (The original pipeline had three different lists in its scripts and never used CCD 2.)
"""

from dataclasses import dataclass

from imaging.detector.ccds import AMPLIFIERS, SCIENCE_CCDS, AmplifierName
from imaging.package_data import read_table


@dataclass(frozen=True, slots=True)
class Fault:
    """A period in which a CCD or one of its amplifiers is not usable.

    Attributes
    ----------
    ccdnum
        CCD concerned.
    amplifier
        ``A`` or ``B``; None for the whole CCD.
    first_night, last_night
        Nights (YYYYMMDD) of the period, both inclusive.
    reason
        Cause of the fault.
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


def _read_fault(row: dict[str, str]) -> Fault:
    amplifier = next((name for name in AMPLIFIERS if name == row["amplifier"]), None)
    last_night = int(row["last_night"]) if row["last_night"] else FOREVER
    return Fault(int(row["ccdnum"]), amplifier, int(row["first_night"]), last_night, row["reason"])


FAULTS: tuple[Fault, ...] = tuple(map(_read_fault, read_table("imaging.detector", "faults.csv")))
"""Known faults. CCD 2 works again from the end of December 2016."""


def faults_on(night: int) -> tuple[Fault, ...]:
    """Return the faults that exist on a night (YYYYMMDD)."""
    return tuple(fault for fault in FAULTS if fault.covers(night))


def dead_ccds(night: int) -> frozenset[int]:
    """Return the CCDs without any image on a night."""
    return frozenset(fault.ccdnum for fault in faults_on(night) if fault.amplifier is None)


def working_ccds(night: int) -> tuple[int, ...]:
    """Return the working science CCDs of a night, in order."""
    dead = dead_ccds(night)
    return tuple(ccd for ccd in SCIENCE_CCDS if ccd not in dead)


def bad_amplifiers(night: int, ccdnum: int) -> tuple[AmplifierName, ...]:
    """Return the unusable amplifiers of a CCD on a night."""
    return tuple(f.amplifier for f in faults_on(night) if f.ccdnum == ccdnum and f.amplifier is not None)
