"""Global concurrency limits on the server that Prefect's settings name."""

from deployments.server.applied import Applied, merged_limit
from tasks.steps import EXPOSURES, LIMITS


def create_limits(applied: Applied, exposures: int | None = None) -> None:
    """Create the missing concurrency limits; those that somebody has changed keep their values.

    Parameters
    ----------
    applied
        The values that were applied last; updated, but not written.
    exposures
        Exposures processed at the same time by all runs; None to keep that limit.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    with get_client(sync_client=True) as client:
        known = {limit.name: limit.limit for limit in client.read_global_concurrency_limits(limit=200)}
        for name, default in LIMITS.items():
            slots = merged_limit(known.get(name), applied.limits.get(name), default)
            if name == EXPOSURES and exposures is not None:
                slots = exposures
            if name not in known:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
            elif slots != known[name]:
                client.upsert_global_concurrency_limit_by_name(name, slots)
            applied.limits[name] = default
