"""One pretraining method a file."""
