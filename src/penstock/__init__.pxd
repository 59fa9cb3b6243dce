# What `from penstock cimport Engine` finds; its methods in C are in _core.pxd.
from penstock._core cimport Engine
