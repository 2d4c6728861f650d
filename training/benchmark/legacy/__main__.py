"""Score under the original papers' protocol and a patient-grouped one: python -m training.benchmark.legacy."""

import tyro

from training.benchmark.legacy.run import main

tyro.cli(main)
