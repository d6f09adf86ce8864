"""The command line: ``gw-workflow``."""
