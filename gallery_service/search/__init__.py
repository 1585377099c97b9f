"""Finding a person again in a gallery."""
