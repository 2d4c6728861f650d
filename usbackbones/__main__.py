"""`python -m usbackbones` is the command `usbackbones`."""

from usbackbones.cli import main

main()
