"""Random inputs for every reader and every flag: ``python -m tests.fuzz --seconds 600``."""
