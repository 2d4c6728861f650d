"""Losses, heads and gradients that several methods or the engine use."""
