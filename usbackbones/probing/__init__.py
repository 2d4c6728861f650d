"""Probes on frozen features: kNN, linear and ridge, with few labels too."""
