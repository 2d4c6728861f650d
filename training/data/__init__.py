"""Corpora, the cache, sampling and augmentation."""
