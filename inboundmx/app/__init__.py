"""Composition: reads the INI, builds the parts, plugs them together and runs them as one Twisted service.

The only package that knows everyone, and the only one that imports the reactor.
"""
