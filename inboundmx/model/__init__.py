"""Nouns: frozen values that every other package speaks in.

Knows what a session, an envelope, a message, a finding, a verdict and an entry in the spool are made of. Does not know
where they come from or what becomes of them. Imports the standard library only.
"""
