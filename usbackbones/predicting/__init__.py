"""A trained model on new clips, and its evaluation on an external labelled set."""
