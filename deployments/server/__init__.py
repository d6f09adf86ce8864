"""The Prefect server of a site: process, settings, database, deployments, automations, limits, metrics."""
