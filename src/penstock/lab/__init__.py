"""What instances that share a limit admit, tried out with real processes on a real Redis, beside two other designs.

settings, loads -> trial -> fleet -> instance, one process each -> design: shared, per_request or delta_push
                     |-> server (its own, where none is given)
                     `-> measure -> report, plot, page
"""
