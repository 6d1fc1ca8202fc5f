"""Trains with several workers, or on data larger than the memory: rows are read in batches and kept encoded on disk."""
