"""Which attacks run, given what the model turns out to be."""
