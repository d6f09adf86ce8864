"""Developer tools: training, derivation of tables, checks of style and of tests."""
