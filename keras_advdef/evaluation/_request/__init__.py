"""Who is evaluated, on what, and how: the arguments, checked."""
