"""What a person or an event asks for: an exposure or a night, processed under a version."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from blocks.site import Destination
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.settings import Settings


class Version(Settings):
    """Under which version products are filed, and where."""

    rnum: int = 1
    """Request number, the first half of the version tag."""
    pnum: int = 1
    """Processing number, the second half of the version tag."""
    season: int = 1
    """Season under which difference products are filed."""
    schema_name: Literal["gw", "wsdiff"] = "gw"
    """Name of the output tree."""
    destination: Destination = "persistent"
    """Where products are written: kept, or scratch."""
    calibration_epoch: str | None = None
    """Calibration epoch to use whatever its validity says, such as y4e1; None to follow the validity."""
    label: str = ""
    """A version label that is passed on to the run's page."""


def needed_first(schema: dict[str, Any]) -> None:
    """Put what must be given in front of what has a default, in the form that Prefect's pages make of a schema."""
    needed = schema["required"]
    schema["properties"] = dict(sorted(schema["properties"].items(), key=lambda entry: entry[0] not in needed))


class ExposureRequest(Version):
    """One exposure and the version under which its products are filed."""

    model_config = ConfigDict(json_schema_extra=needed_first)

    expnum: int
    """Exposure number, of any length."""
    band: str
    """Band: u, g, r, i, z, Y or VR."""
    night: int
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
            If band, night or number are none.
        """
        return ExposureId(self.expnum, self.band, self.night, self.rnum, self.pnum, self.schema_name)


class NightEvent(BaseModel):
    """What the run of a night needs of the event that registered it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    night: int

    @classmethod
    def night_of(cls, night: int | None, event: Mapping[str, Any] | None) -> int:
        """Return the night that was asked for, by number or by the payload of an event.

        Raises
        ------
        InputError
            If neither names one, or the payload is not that of a registered night.
        """
        if night is not None:
            return night
        if event is None:
            raise InputError("no night asked for", limit="a night, YYYYMMDD, or the event that registered one")
        try:
            return cls.model_validate(dict(event)).night
        except ValidationError as error:
            raise InputError(
                "event names no night", value=error.errors()[0]["msg"], limit="a payload with night"
            ) from error
