"""Which CCDs and amplifiers work, by date.

The original carried three different lists in its scripts and dropped CCD 2 for ever; here the facts stand with their
dates, in the table ``data/faults.csv``. Another failure of the camera is a row there and nowhere else.
"""

from dataclasses import dataclass

from imaging.detector.ccds import AMPLIFIERS, SCIENCE_CCDS, AmplifierName
from imaging.package_data import read_table


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
    """Return the CCDs that give no image at all on a night."""
    return frozenset(fault.ccdnum for fault in faults_on(night) if fault.amplifier is None)


def working_ccds(night: int) -> tuple[int, ...]:
    """Return the science CCDs worth processing on a night, in order."""
    dead = dead_ccds(night)
    return tuple(ccd for ccd in SCIENCE_CCDS if ccd not in dead)


def bad_amplifiers(night: int, ccdnum: int) -> tuple[AmplifierName, ...]:
    """Return the unusable amplifiers of a CCD on a night."""
    return tuple(f.amplifier for f in faults_on(night) if f.ccdnum == ccdnum and f.amplifier is not None)
