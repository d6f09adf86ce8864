"""The steps of the pipeline, one thin Prefect task per step, and the planning of their inputs."""
