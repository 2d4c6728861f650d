"""From a run to a published weight with its card.

checks.py holds all that refuses a release, a weight that saw a locked test group
(training/data/locked_splits.py) first.
"""
