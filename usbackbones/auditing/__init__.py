"""Audit of a labelled data set: what it gives away before a network has looked at the tissue."""
