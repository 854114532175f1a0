"""Custody: what we promised not to lose.

Knows how an entry and its body are kept so that no crash loses them. Does not know when or to whom they are delivered.
``store`` is the contract; ``sqlite`` and ``bodies`` keep it.
"""
