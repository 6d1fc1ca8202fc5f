"""Runs: work on all rows of files, part by part, whose output appears at once and whole."""
