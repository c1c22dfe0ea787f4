"""The gallery of a pushed model: whom the retrieval service can find."""
