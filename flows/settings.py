"""The settings of the flows: those of their stages, put together."""

from pydantic import Field

from imaging.candidates.settings import CandidateSettings
from imaging.detrend.settings import DetrendSettings
from imaging.difference.chain import SearchSettings
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
    """How the instrument's signature is removed."""
    sky: SkySettings = SkySettings()
    """How the sky of the exposure is fitted."""
    measure: MeasureSettings = MeasureSettings()
    """How a CCD is cleaned and measured."""


class ExposureSettings(Settings):
    """Settings of all stages of one exposure."""

    single_epoch: SingleEpochSettings = SingleEpochSettings()
    """From raw pixels to catalogues."""
    calibration: CalibrationSettings = CalibrationSettings()
    """Zero points."""
    verification: VerificationSettings = VerificationSettings()
    """What products must fulfil."""


class DifferenceStageSettings(Settings):
    """Settings of the difference stage."""

    templates: TemplateSettings = TemplateSettings()
    """Which exposures may serve as templates, and which are preferred."""
    search: SearchSettings = SearchSettings()
    """Stack, subtraction, detection, fakes."""


class NightSettings(Settings):
    """Settings of a whole night."""

    version: Version = Version()
    """Under which version and season the products are filed."""
    exposure: ExposureSettings = ExposureSettings()
    """Stages of every exposure."""
    difference: DifferenceStageSettings = DifferenceStageSettings()
    """Difference imaging of the search exposures."""
    candidates: CandidateSettings = CandidateSettings()
    """Association, cross-match, rank."""
    concurrent_exposures: int = Field(default=2, ge=1)
    """Exposures that are processed at the same time: with two, the cores have work while one exposure waits for its
    last CCD."""
