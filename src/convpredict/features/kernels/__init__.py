"""Compiled walks over the event index, one small file per family of features.

Every kernel walks one lead once for all of its cutoffs in ascending order. The value of a cell is a function of the
lead's rows that are visible at the cutoff, to the bit, whatever other cutoffs are asked for in the same call.
"""
