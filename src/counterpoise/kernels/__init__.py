"""The two equations every loss here is made of, and the one definition of their mean; see `counterpoise.losses`."""
