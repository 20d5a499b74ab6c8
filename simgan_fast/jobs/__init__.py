"""Whole jobs: paths in, folders out. Each is a function first and a command second."""
