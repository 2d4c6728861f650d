"""Compare backbones as encoders of a U-Net: python -m training.benchmark.dense."""

import tyro

from training.benchmark.dense.run import main

tyro.cli(main)
