"""How the analysis is shown: terminal tables, charts, one HTML page; imports no torch."""
