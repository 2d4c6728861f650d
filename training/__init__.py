"""Training and evaluation of the weights; imports usbackbones and is never imported by it."""
