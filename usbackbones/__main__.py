"""`python -m usbackbones` is the command `usbackbones`."""

from usbackbones.cli.main import main

main()
