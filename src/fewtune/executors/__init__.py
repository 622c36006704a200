"""Where trials run; every executor turns a list of trials into records."""
