"""Publish a run and keep cards and README in step with the records: python -m training.release."""

from training.release.commands import main

main()
