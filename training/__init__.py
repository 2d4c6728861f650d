"""How the weights are made and judged; imports usbackbones and is never imported by it."""
