"""The steps that are mapped, retried, cached and watched: one thin Prefect task per step."""
