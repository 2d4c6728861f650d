"""Random views of a frame: the augmentations."""
