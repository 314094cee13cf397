"""Worlds small enough to be solved: the exact policy, its values, and how far a learned policy is from it."""
