"""Decisions: which action to offer a customer, by the same rules for one customer and for millions."""
