"""Who exists behind the gateway: recipients listed, asked about, and learned from what primaries answer.

Knows which sources a domain has, what each of them said, and for how long that holds. Does not know what an answer is
worth, nor how a file, a web service or a primary is reached. Imports ``model``, ``policy`` and ``ports``.
"""
