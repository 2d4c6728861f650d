"""One table of all that takes time: python -m training.speed [--quick]."""

from training.data.errors import short_errors
from training.speed.run import main

if __name__ == "__main__":  # measuring processes import this module again
    with short_errors():
        main()
