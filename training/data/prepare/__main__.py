"""Decode a corpus once: python -m training.data.prepare."""

import tyro

from training.data.errors import CorpusError, short_errors
from training.data.prepare.run import main

if __name__ == "__main__":  # decoding processes import this module again
    with short_errors(CorpusError):
        tyro.cli(main)
