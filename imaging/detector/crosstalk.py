"""The crosstalk matrix between amplifiers, and the observatory's text format of it.

A line holds victim, source, coefficient, its error, the onset of non-linearity in ADU and the polynomial beyond it:
``ccd25B ccd25A 1.34e-04 1.13e-05 4.078154e+04 1.537540e-04 -6.980507e-08 5.963848e-12``. Up to the onset the victim
receives coefficient times the source's signal; above it coefficient times onset plus the polynomial in the excess.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imaging.detector.ccds import AMPLIFIERS, AmplifierName
from imaging.errors import InputError
from imaging.package_data import read_table

LARGEST = 0.1
"""Largest coefficient that is possible; that of the observatory's matrix is 0.0025."""

NEGLIGIBLE = 1e-6
"""Coefficients smaller than this are dropped, as in the original pipeline."""

Place = tuple[int, AmplifierName]
"""CCD number and amplifier."""


@dataclass(frozen=True, slots=True)
class CrosstalkTerm:
    """Crosstalk from one amplifier into another.

    Attributes
    ----------
    victim, source
        (CCD number, amplifier).
    coefficient
        ADU in the victim per ADU of the source, below the onset.
    onset_adu
        Signal of the source above which the response is non-linear.
    polynomial
        Coefficients of the excess above the onset, first power first.
    """

    victim: Place
    source: Place
    coefficient: float
    onset_adu: float
    polynomial: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CrosstalkMatrix:
    """All crosstalk terms of the camera."""

    terms: tuple[CrosstalkTerm, ...]

    def into(self, ccdnum: int) -> tuple[CrosstalkTerm, ...]:
        """Return the terms with a given victim CCD."""
        return tuple(term for term in self.terms if term.victim[0] == ccdnum)

    def sources_of(self, ccdnum: int) -> tuple[int, ...]:
        """Return the other CCDs with crosstalk into a CCD."""
        return tuple(sorted({term.source[0] for term in self.into(ccdnum)} - {ccdnum}))


def observatory_crosstalk() -> CrosstalkMatrix:
    """Return the matrix published by the observatory in 2013."""
    return CrosstalkMatrix(
        tuple(
            CrosstalkTerm(
                (int(row["victim_ccd"]), _amplifier(row["victim_amp"])),
                (int(row["source_ccd"]), _amplifier(row["source_amp"])),
                float(row["coefficient"]),
                float(row["onset_adu"]),
                (float(row["c1"]), float(row["c2"]), float(row["c3"])),
            )
            for row in read_table("imaging.detector", "crosstalk.csv")
        )
    )


def parse_crosstalk(text: str, source: str = "crosstalk table") -> CrosstalkMatrix:
    """Parse the observatory's text format; negligible terms are dropped.

    Parameters
    ----------
    text
        Content of the file.
    source
        Name of the file for error messages.

    Raises
    ------
    InputError
        If a line is invalid.
    """
    terms = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            term = CrosstalkTerm(
                _parse_amplifier(words[0]),
                _parse_amplifier(words[1]),
                float(words[2]),
                float(words[4]),
                tuple(float(word) for word in words[5:]),
            )
            numbers = (term.coefficient, *term.polynomial)
            if not all(abs(value) <= LARGEST for value in numbers) or not 0.0 <= term.onset_adu < math.inf:
                raise ValueError("impossible number")
        except (ValueError, IndexError) as error:
            place = f"{source}, line {number}: {line[:200]!r}"
            raise InputError("crosstalk line not understood", value=place, remedy="copy the file again") from error
        if abs(term.coefficient) >= NEGLIGIBLE:
            terms.append(term)
    return CrosstalkMatrix(tuple(terms))


def format_crosstalk(terms: Iterable[CrosstalkTerm], errors: Mapping[tuple[Place, Place], float] | None = None) -> str:
    """Format terms in the observatory's text format.

    Parameters
    ----------
    terms
        The terms.
    errors
        (victim, source) to error of the coefficient, where it is known.
    """
    lines = ["# victim source x x_err src_nl poly_coeff"]
    for term in terms:
        names = [f"ccd{ccd:02d}{amplifier}" for ccd, amplifier in (term.victim, term.source)]
        powers = "  ".join(f"{c:.6e}" for c in term.polynomial)
        error = (errors or {}).get((term.victim, term.source), 0.0)
        lines.append(f"{names[0]}   {names[1]}   {term.coefficient:.6e}  {error:.2e}  {term.onset_adu:.6e}  {powers}")
    return "\n".join(lines) + "\n"


def _parse_amplifier(word: str) -> tuple[int, AmplifierName]:
    match = re.fullmatch(r"ccd(\d+)([AB])", word)
    if match is None:
        raise ValueError(word)
    return int(match[1]), _amplifier(match[2])


def _amplifier(name: str) -> AmplifierName:
    return AMPLIFIERS[AMPLIFIERS.index(name)]
