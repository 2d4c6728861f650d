"""The manifest of a corpus, from known datasets or from a folder of your own."""
