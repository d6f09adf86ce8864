"""How any step is run, and nothing of astronomy: jobs, cache, retries, cluster, outcomes, progress, artifacts."""
