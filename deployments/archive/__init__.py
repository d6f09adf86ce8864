"""The NOIRLab Astro Data Archive: search it and fetch files; the only part that uses its network address."""
