"""The settings of the flows, composed of those of their stages."""

from pydantic import Field

from imaging.candidates.settings import CandidateSettings
from imaging.detrend.settings import DetrendSettings
from imaging.difference.settings import SearchSettings
from imaging.measure.settings import MeasureSettings
from imaging.photometry.settings import CalibrationSettings
from imaging.quality.settings import VerificationSettings
from imaging.settings import Settings
from imaging.sky.settings import SkySettings
from imaging.templates.settings import TemplateSettings
from tasks.requests import Version


class SingleEpochSettings(Settings):
    """Settings of the single-epoch stage."""

    detrend: DetrendSettings = DetrendSettings()
    """Detrending: removal of the instrumental signature."""
    sky: SkySettings = SkySettings()
    """Sky fit of the whole exposure."""
    measure: MeasureSettings = MeasureSettings()
    """Masks, astrometry, PSF and catalogue of a CCD."""


class ExposureSettings(Settings):
    """Settings of all stages of one exposure."""

    single_epoch: SingleEpochSettings = SingleEpochSettings()
    """Single-epoch stage: from raw pixels to catalogues."""
    calibration: CalibrationSettings = CalibrationSettings()
    """Calibration stage: final coordinates and zero points."""
    verification: VerificationSettings = VerificationSettings()
    """Verification stage: limits that products must meet."""


class DifferenceStageSettings(Settings):
    """Settings of the difference stage."""

    templates: TemplateSettings = TemplateSettings()
    """Selection and ranking of template exposures."""
    search: SearchSettings = SearchSettings()
    """Stack of templates, subtraction, detection, fakes."""


class TidySettings(Settings):
    """What the run of a night does about disk space."""

    enabled: bool = True
    """Whether to remove the intermediate images of an exposure as soon as it is verified."""


class NightSettings(Settings):
    """Settings of a whole night."""

    version: Version = Version()
    """Version and season of the products."""
    exposure: ExposureSettings = ExposureSettings()
    """Stages of every exposure."""
    difference: DifferenceStageSettings = DifferenceStageSettings()
    """Difference imaging of the search exposures."""
    candidates: CandidateSettings = CandidateSettings()
    """Association, cross-match and ranking of candidates."""
    tidy: TidySettings = TidySettings()
    """Disk space."""
    concurrent_exposures: int = Field(default=2, ge=1)
    """Number of exposures processed at the same time; with two, cores stay busy while one exposure waits for its last
    CCD."""
