"""Opinions: one small file for each kind of check.

A check knows how to look at one side of a message and says what it saw in a word of its own list. It does not know
what the word is worth; the INI does. Imports ``model``, ``ports`` and libraries that do no I/O of their own.
"""
