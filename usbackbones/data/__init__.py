"""Labelled data: folders and tables, splits by group, near-duplicates."""
