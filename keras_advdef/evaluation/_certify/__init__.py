"""The analysis of networks behind the certificates."""
