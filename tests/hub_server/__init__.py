"""A Hugging Face Hub in a folder of one's own: a small HTTP server with the part of its API that models need.

The tests run against it, with faults on demand; `python -m tests.hub_server` starts it for trying a release, or for
sharing weights inside a house that has no way out. It knows repositories of models, not datasets and not spaces.
"""
