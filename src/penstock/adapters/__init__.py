"""From a request of any web framework to decisions, and from decisions to its answer."""
