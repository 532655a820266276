"""What the commands of `keras-advdef` do, once their arguments hold."""
