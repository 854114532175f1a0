"""Adapters for the outside that is neither SMTP nor disk: the clock, chance, later DNS and scanners."""
