"""What developers run: training, deriving, checks of style and of tests."""
