"""Plans the attacks, given the request and what a probe of the model shows."""
