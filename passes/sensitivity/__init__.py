"""Sensitivity: how much a metric loses when a share of one channel group goes, group by group.

In reading order: ``sweep`` (what is measured), ``prefix`` (why that is fast), ``executor`` (where it runs),
``profile`` (what comes out).
"""
