"""Ours beside stock Debian Postfix, in one run on one machine: ``python -m benchmarks [--quick] [--scenario NAME]``.

Knows how both are started on loopback, loaded and measured. The product knows nothing of it. Rates of a shared machine
say little; the ratios, taken repeat by repeat, are what is reported.
"""
