"""Labelled data: folders and tables, splits by group; near_duplicates.py finds frames that are one image."""
