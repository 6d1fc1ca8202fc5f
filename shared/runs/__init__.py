"""Runs: work on all rows of files, part by part, whose output appears as a whole."""
