"""TFX components: what happens to data and models on their way; each folder is one component."""
