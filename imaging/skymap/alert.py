"""An alert of the gravitational-wave network: what happened, when, and where it may be."""

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
        When the notice was written, UTC.
    mjd_event
        Instant of the merger, UTC; NaN in a retraction.
    significant
        Whether the network calls it significant.
    false_alarm_rate_hz
        False-alarm rate; NaN if not stated.
    classification
        Probability by kind of source (BNS, NSBH, BBH, Terrestrial).
    properties
        Probability by property (HasNS, HasRemnant, ...).
    instruments
        Detectors that saw it.
    skymap
        The sky map inside the notice, or None.
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
        """Whether the event is withdrawn."""
        return self.kind == "RETRACTION"
