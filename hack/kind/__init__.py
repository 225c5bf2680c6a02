"""Builds and runs the clusters that the tests and `make kind-up` use. Standard library only: it runs before any venv exists."""
