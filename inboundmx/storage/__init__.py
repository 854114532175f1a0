"""Memory on disk that is not a promise: a writer thread that commits in batches, and the ledger's file.

Losing what is kept here costs delay or an explanation, never mail.
"""
