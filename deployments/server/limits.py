"""Make the limits that protect what runs share, on the server that Prefect's settings name."""

from tasks.steps import EXPOSURES, LIMITS


def create_limits(exposures: int | None = None) -> None:
    """Make the concurrency limits that are not there yet; one that somebody has changed stays as it is.

    Parameters
    ----------
    exposures
        Exposures that may be processed at the same time, in whatever runs; None to leave that limit as it is.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    with get_client(sync_client=True) as client:
        known = {limit.name for limit in client.read_global_concurrency_limits(limit=200)}
        for name, slots in LIMITS.items():
            if name not in known:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
        if exposures is not None:
            client.upsert_global_concurrency_limit_by_name(EXPOSURES, exposures)
