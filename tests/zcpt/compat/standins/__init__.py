"""Search networks in the shapes of three code bases, as far as a selection step can tell."""
