"""One module for each framework, imported only when asked for; what they share is in penstock.adapters."""
