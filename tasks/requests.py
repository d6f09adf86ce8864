"""Requests to process an exposure or a night, from parameters of flows or payloads of events."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blocks.site import Destination
from imaging.detector.ccds import SCIENCE_CCDS
from imaging.errors import InputError
from imaging.identity import ExposureId, check_night
from imaging.settings import Settings

Night = Annotated[int, Field(ge=20000101, le=20991231)]
"""A night, YYYYMMDD; the form of a run shows and checks the bounds, the run itself whether it is a date."""

Ccds = Annotated[tuple[Annotated[int, Field(ge=1, le=SCIENCE_CCDS[-1])], ...], Field(min_length=1)]
"""At least one science CCD."""

Name = Annotated[str, Field(min_length=1)]
"""A name that is not empty."""


class Version(Settings):
    """Version and destination of products."""

    rnum: int = Field(default=1, ge=0)
    """Request number, the first half of the version tag."""
    pnum: int = Field(default=1, ge=0)
    """Processing number, the second half of the version tag."""
    season: int = Field(default=1, ge=0)
    """Season of the products of the difference stage."""
    schema_name: Literal["gw", "wsdiff"] = "gw"
    """Name of the output tree."""
    destination: Destination = "persistent"
    """Destination of products: persistent or scratch."""
    calibration_epoch: str | None = None
    """Calibration epoch to use regardless of its validity, such as y4e1; None to follow the validity."""
    label: str = ""
    """Version label, shown on the page of the run."""


def needed_first(schema: dict[str, Any]) -> None:
    """Sort the properties of a JSON schema, required ones first, for the form in Prefect's UI."""
    needed = schema["required"]
    schema["properties"] = dict(sorted(schema["properties"].items(), key=lambda entry: entry[0] not in needed))


class ExposureRequest(Version):
    """One exposure, and the version of its products."""

    model_config = ConfigDict(json_schema_extra=needed_first)

    expnum: int = Field(ge=1)
    """Exposure number, of any length."""
    band: Name
    """Band: u, g, r, i, z, Y or VR."""
    night: Night
    """Local date at the beginning of the night, YYYYMMDD."""

    @model_validator(mode="after")
    def _names_an_exposure(self) -> Self:
        self.exposure_id()
        return self

    def exposure_id(self) -> ExposureId:
        """Return the identity of the exposure.

        Raises
        ------
        InputError
            If band, night or exposure number are invalid.
        """
        return ExposureId(self.expnum, self.band, self.night, self.rnum, self.pnum, self.schema_name)


class NightEvent(BaseModel):
    """The part of a night event's payload that the flows use."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    night: int

    @classmethod
    def run_name(cls, flow: str, parameters: Mapping[str, Any], given: str | None) -> str:
        """Return the name of a run: the one given if it begins with flow and night, as that of the watcher does.

        A flow without a valid night says itself what is wrong.
        """
        night = parameters.get("night")
        try:
            name = f"{flow}-{cls.night_of(night, parameters.get('event'))}"
        except InputError:
            return f"{flow}-{'without-a-night' if night is None else night}"
        return given if given and given.startswith(name) else name

    @classmethod
    def night_of(cls, night: int | None, event: Mapping[str, Any] | None) -> int:
        """Return the night, YYYYMMDD, from a flow's parameter or from the payload of an event.

        Raises
        ------
        InputError
            If neither is given, the night is not a date, or the payload has no valid night.
        """
        if night is not None:
            check_night(night)
            return night
        if event is None:
            raise InputError("no night given", limit="a night, YYYYMMDD, or the event of a registered night")
        try:
            return cls.model_validate(dict(event)).night
        except ValidationError as error:
            raise InputError(
                "event has no valid night", value=error.errors()[0]["msg"], limit="a payload with night"
            ) from error
