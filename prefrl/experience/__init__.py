"""Environments, what happened in them, and the segments cut from it."""
