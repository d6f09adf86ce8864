"""The astrometric solution of an exposure: storage format, and mapping of pixels to the sky."""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.interpolate import RectBivariateSpline

from imaging.astrometry.displacement import PixelDisplacement
from imaging.astrometry.turbulence import Turbulence
from imaging.wcs.tpv import TpvWcs, plane_to_sky

FloatArray = NDArray[np.float64]

MAS_PER_DEGREE = 3.6e6

BETTER_IN_CATALOGUE = (
    "Positions in the catalogue of this image (RA and Dec of fullcat) are better than those from this header. They "
    "contain the turbulence of the atmosphere, interpolated between the reference stars of the whole exposure, which a "
    "polynomial of third order per CCD cannot follow. ASTRRMS is the rms of bright reference stars from this header, "
    "ASTRRMSC that from the catalogue, each star predicted from the others; both contain the noise of these stars."
)
"""Comment in the header of images whose catalogue has the better positions."""


def colour_powers(excess_mag: FloatArray, n_terms: int = 3) -> FloatArray:
    """Return the powers of colours minus the typical one, from the first on: (n, n_terms)."""
    return np.stack([excess_mag**power for power in range(1, n_terms + 1)], axis=-1)


class Chromatic(BaseModel):
    """Displacement of sources by their colour: differential refraction, by airmass and parallactic angle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    typical_mag: float
    """BP - RP of the sources for which the coordinates are."""
    range_mag: tuple[float, float]
    """Range of the colours of the stars; a colour outside counts as its end."""
    terms_mas: list[list[float]]
    """Coefficients along xi and eta of the powers of the colour minus the typical one, from the first on."""

    def shift_mas(self, colour_mag: FloatArray) -> FloatArray:
        """Return what is to be added to the standard coordinates of sources: (n, 2) mas; 0 where the colour is NaN."""
        excess = np.clip(colour_mag, *self.range_mag) - self.typical_mag
        terms = np.array(self.terms_mas)
        return np.nan_to_num(colour_powers(excess, terms.shape[1]) @ terms.T)


class TiedCcd(BaseModel):
    """The solution of one CCD."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: dict[str, float | str]
    """FITS keywords of the TPV system."""
    n_stars: int
    """Stars of this CCD in the solution."""
    source: Literal["own", "exposure"]
    """Whether the solution includes stars of this CCD, not only those of other CCDs."""
    rms_mas: tuple[float, float] | None
    """Rms residuals along xi and eta of stars of high signal to noise under the TPV system; None without stars."""
    left_out_rms_mas: tuple[float, float] | None
    """The same after the turbulence predicted from all other stars; None without stars."""
    correction_mas: list[list[list[float]]]
    """Residual of the solution after the TPV system, mostly interpolated turbulence: on a regular grid over the CCD,
    rows along y, two values (xi, eta) per point, to be added to the standard coordinates by a cubic spline."""
    chromatic: Chromatic | None = None
    """Displacement of sources by their colour; None if it is not known, as in solutions of earlier versions."""
    displacement: PixelDisplacement | None = None
    """Displacement by tree rings and edges that was taken from the measured positions; None if no map was applied."""

    @classmethod
    def without_others(cls, wcs: TpvWcs, n_stars: int, rms_mas: float | None) -> Self:
        """Return the solution of a part of a CCD by itself.

        Parameters
        ----------
        wcs, n_stars, rms_mas
            Coordinates, stars that determine them, and their rms per axis.
        """
        rms = None if rms_mas is None else (rms_mas, rms_mas)
        header, none = wcs.to_header(), [[[0.0, 0.0]] * 2] * 2
        return cls(
            header=header, n_stars=n_stars, source="own", rms_mas=rms, left_out_rms_mas=None, correction_mas=none
        )

    def wcs(self) -> TpvWcs:
        """Return the TPV system."""
        return TpvWcs.from_header(self.header)

    def sky(
        self, x: FloatArray, y: FloatArray, shape: tuple[int, int], colour_mag: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Map pixels to the sky with the corrections added.

        Parameters
        ----------
        x, y
            (n,) pixels, 0-based.
        shape
            (ny, nx) of the CCD.
        colour_mag
            (n,) BP - RP of the sources, NaN where it is unknown; None if it is everywhere.

        Returns
        -------
        ra, dec
            Degrees, ICRS.
        """
        wcs = self.wcs()
        if self.displacement is not None:
            x, y = self.displacement.undo(x, y)
        table = np.asarray(self.correction_mas) / MAS_PER_DEGREE
        rows, columns = (np.linspace(0, n - 1, m) for n, m in zip(shape, table.shape[:2], strict=True))
        place = np.clip(y, 0, shape[0] - 1), np.clip(x, 0, shape[1] - 1)
        degrees = {"kx": min(3, rows.size - 1), "ky": min(3, columns.size - 1)}
        splines = [RectBivariateSpline(rows, columns, values, **degrees) for values in np.moveaxis(table, 2, 0)]
        extra = np.stack([spline.ev(*place) for spline in splines], axis=-1)
        if colour_mag is not None and self.chromatic is not None:
            extra = extra + self.chromatic.shift_mas(colour_mag) / MAS_PER_DEGREE
        xi, eta = wcs.pixel_to_plane(x, y)
        return plane_to_sky(xi + extra[:, 0], eta + extra[:, 1], *wcs.crval)


class ExposureAstrometry(BaseModel):
    """The solution of an exposure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ccds: dict[int, TiedCcd]
    """CCD number to its solution."""
    n_stars: int
    """Stars in the solution."""
    scatter_mas: float
    """Scatter per axis beyond the formal errors before the turbulence is interpolated."""
    turbulence: Turbulence
    """Statistics of the turbulence."""
    colour_shift_mas: tuple[float, float]
    """Displacement along xi and eta per magnitude of BP - RP: differential refraction."""
    pointing_offset_arcsec: tuple[float, float]
    """Offset of the telescope's pointing along xi and eta."""

    def joined(self, parts: dict[int, TiedCcd]) -> Self:
        """Return the solution with the parts of CCDs that were solved by themselves."""
        n_stars = self.n_stars + sum(part.n_stars for part in parts.values())
        return self.model_copy(update={"ccds": self.ccds | parts, "n_stars": n_stars})


NOT_TIED = ExposureAstrometry(
    ccds={},
    n_stars=0,
    scatter_mas=0.0,
    turbulence=Turbulence(0.0, 1.0),
    colour_shift_mas=(0.0, 0.0),
    pointing_offset_arcsec=(0.0, 0.0),
)
"""The solution of an exposure of which there are parts of CCDs only."""
