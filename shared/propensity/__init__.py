"""Propensity models: features from customer rows, boosted trees on them, and what those are worth."""
