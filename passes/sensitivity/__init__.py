"""Sensitivity: how much a metric loses when a share of one channel group goes, group by group.

In reading order: ``measure`` (from beginning to end), ``sweep`` (one measurement), ``prefix`` (why that is fast),
``executor`` (where it runs), ``profile`` (what comes out).
"""
