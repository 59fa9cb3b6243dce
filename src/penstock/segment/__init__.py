"""Limits of all processes of a host: the file that they map, and what it says of itself."""
