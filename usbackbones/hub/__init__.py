"""From a name to proven bytes to a timm model."""
