"""Delimiters that all readers of customers' text files accept."""

DELIMITERS = (",", ";", "\t", "|")
