"""From embeddings to decisions: what travels with a bundle."""
