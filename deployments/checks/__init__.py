"""What a site looks like now: progress of its nights, and checks before a night."""
