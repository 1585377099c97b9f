"""What a gallery keeps: segments of vectors, rows, and the models they belong to."""
