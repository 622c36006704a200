"""`python -m fewtune.cli`, the same as `fewtune`."""

from fewtune.cli import main

main()
