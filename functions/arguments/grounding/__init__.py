"""Holds a text against facts: which of its claims a field supports, and what no field holds. No model is asked."""
