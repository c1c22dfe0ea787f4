"""How embeddings are judged. NumPy alone, no TensorFlow."""
