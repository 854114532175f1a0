"""Reception: the story of one incoming message.

Knows in which order a stranger is heard, opinions are asked, and a message is handed over or promised. Does not know a
socket, nor how a check, a spool or a courier does its work. Imports ``model``, ``policy``, ``checks`` and ``ports``.
"""
