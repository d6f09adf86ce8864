"""Gravitational-wave alert: event, times, significance, classification and sky map."""

from dataclasses import dataclass, field

from imaging.skymap.model import SkyMap


@dataclass(frozen=True, eq=False)
class Alert:
    """One notice of an event.

    Attributes
    ----------
    event
        Name of the event, such as ``S190814bv``.
    kind
        ``EARLYWARNING``, ``PRELIMINARY``, ``INITIAL``, ``UPDATE`` or ``RETRACTION``.
    mjd_issued
        Time of the notice, MJD UTC.
    mjd_event
        Time of the merger, MJD UTC; NaN in a retraction.
    significant
        Whether the network classifies it as significant.
    false_alarm_rate_hz
        False-alarm rate; NaN if not stated.
    classification
        Probability by source class (BNS, NSBH, BBH, Terrestrial).
    properties
        Probability by property (HasNS, HasRemnant, ...).
    instruments
        Detectors that contributed.
    skymap
        The sky map in the notice, or None.
    url
        Page of the event.
    """

    event: str
    kind: str
    mjd_issued: float
    mjd_event: float = float("nan")
    significant: bool = False
    false_alarm_rate_hz: float = float("nan")
    classification: dict[str, float] = field(default_factory=dict)
    properties: dict[str, float] = field(default_factory=dict)
    instruments: tuple[str, ...] = ()
    skymap: SkyMap | None = None
    url: str = ""

    @property
    def is_retraction(self) -> bool:
        """Whether the notice is a retraction."""
        return self.kind == "RETRACTION"
