"""One run's folder: resolved, written and read back."""
