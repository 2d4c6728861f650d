"""The manifest to train on, made of the datasets that corpora/ reads, or of a folder of your own."""
