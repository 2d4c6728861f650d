"""Decode a corpus once into memory-mapped frames."""
