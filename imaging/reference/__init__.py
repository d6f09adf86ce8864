"""Reference catalogues: what is kept of a source catalogue, how it is rounded, partitioned and put together."""
