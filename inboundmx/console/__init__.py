"""What programs, and one day browsers, see of a running gateway over HTTP.

Knows routes, who may ask, and how a fact becomes JSON. Does not know where a fact comes from: the assembly hands it
callables. Imports rings 0 to 2 and twisted.web.
"""
