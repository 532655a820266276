"""The steps of `harden`, from the request to the folder."""
