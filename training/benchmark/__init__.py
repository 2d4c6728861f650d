"""Judging backbones on tasks whose test groups are locked away before any training."""
