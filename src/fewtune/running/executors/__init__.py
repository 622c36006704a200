"""Where trials run: an executor takes jobs and tells of each as an event; `base` is the protocol."""
