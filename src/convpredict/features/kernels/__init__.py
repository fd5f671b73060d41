"""Compiled walks over the event index, one small file per family of features.

Every kernel walks one lead once for all of its cutoffs. The value of a cell is a function of the lead's
rows that are visible at the cutoff, to the bit, whatever other cutoffs are asked for in the same call.

Common arguments: ``timeline`` (see :class:`~convpredict.features.kernels.timeline.Timeline`); ``groups``,
the group of each event (-1: none), and the number of groups; ``windows``, columns of ``timeline.leave``;
``target``, rows of ``out`` by group, window or both, -1 where nothing is wanted; ``out``, one row per
column and one column per observation.
"""
