"""Near-duplicates inside a corpus, and between a corpus and a benchmark."""
