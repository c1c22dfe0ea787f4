"""Ingestion: a source of images becomes checked, labelled tf.Examples, split by identity."""
