"""Step engine, free of astronomy: jobs, cache, retries, cluster, outcomes, progress, artifacts."""
