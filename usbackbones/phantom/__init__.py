"""A seeded ultrasound simulator for the demo and the tests."""
