"""Audit rules: each finds one way in which a comparison of methods can be wrong, in records or in anyone's table."""
