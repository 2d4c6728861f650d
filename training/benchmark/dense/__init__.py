"""Backbones compared as encoders of a U-Net on locked masks."""
