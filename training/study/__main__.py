"""Compare recipes on held-out groups: python -m training.study."""

import tyro

from training.study.run import main

if __name__ == "__main__":
    tyro.cli(main)
