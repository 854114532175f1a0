"""Why: what was decided, kept so that anyone who holds an id can be told.

Knows how recorded events are told as a story. Does not know how they came about; keeping them is the work of
``storage.ledger``.
"""
