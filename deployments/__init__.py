"""How runs start: the command line, deployments, event triggers, the night registry, the server."""
