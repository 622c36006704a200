"""Shows an analysis: terminal tables, charts, one HTML page; imports no torch."""
