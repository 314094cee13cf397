"""One question each: a command, its committed raw data, a figure."""
