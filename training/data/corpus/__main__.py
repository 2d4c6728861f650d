"""Write or check the manifest of a corpus: python -m training.data.corpus."""

import sys

from training.data.corpus.known import main

main(sys.argv[1:])
