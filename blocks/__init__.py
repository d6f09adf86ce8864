"""Prefect blocks and the registry of nights: folders of a site, compute cluster, credentials, notifications."""
