"""The operator's commands, one file for each noun.

Knows how to ask a running gateway through its control socket, or its files when it is stopped, and how to print what
comes back. Does not know how a thing is done: ``app.operations`` does.
"""
