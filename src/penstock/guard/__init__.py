"""Abuse protection on the engine: one request in, one verdict out."""
