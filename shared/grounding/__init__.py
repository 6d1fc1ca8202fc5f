"""Compares the claims of a text with facts, without a language model."""
