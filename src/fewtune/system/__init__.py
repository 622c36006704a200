"""The machine and the process: signals, memory, cores, units, terminals, installed plugins."""
