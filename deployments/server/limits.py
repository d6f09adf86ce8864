"""Global concurrency limits on the server that Prefect's settings name."""

from tasks.steps import EXPOSURES, LIMITS


def create_limits(exposures: int | None = None) -> None:
    """Create the missing concurrency limits; existing ones keep their values.

    Parameters
    ----------
    exposures
        Exposures processed at the same time by all runs; None to keep that limit.
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
