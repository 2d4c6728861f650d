"""Which clips make a batch, and with which random numbers."""
