"""Metrics of classification and segmentation, with intervals over groups (resampling.py)."""
