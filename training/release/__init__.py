"""From a run to a published weight with its card."""
