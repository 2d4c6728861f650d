"""From frames to features: transforms, extraction, caches and tables."""
