"""Ways in which comparisons of methods go wrong, each a rule over records, or over anyone's table."""
