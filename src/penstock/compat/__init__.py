"""Other limiters' interfaces on penstock's core; each module needs the library whose interface it is."""
