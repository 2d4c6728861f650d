"""One table of all that takes time: python -m training.speed [--quick]."""

from training.speed.run import main

if __name__ == "__main__":  # measuring processes import this module again
    main()
