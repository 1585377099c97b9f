"""Investigations: what was asked about one person, what was found, and what somebody decided about it."""
