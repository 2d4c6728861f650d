"""Near-duplicates (found by usbackbones/data/near_duplicates.py) inside a corpus, and between it and a benchmark."""
