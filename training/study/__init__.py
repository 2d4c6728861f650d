"""Recipes compared on held-out groups of the pretraining part."""
