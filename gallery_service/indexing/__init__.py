"""The index command: what it embeds, brings together and takes over."""
