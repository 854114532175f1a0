"""Decisions: pure functions of (values, settings, now).

Knows how opinions become a score, a score a verdict, and an attempt the next attempt. Does not know sockets, disks or
clocks: whatever it needs is an argument. Imports ``model`` only.
"""
