"""From a name to proven bytes to a timm model: `entrypoints` asks `registry`, then `locate`, which may `download`."""
