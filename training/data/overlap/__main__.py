"""Near-duplicates in a corpus, and overlap with a benchmark: python -m training.data.overlap."""

import sys

from training.data.overlap.verdicts import main

main(sys.argv[1:])
