"""A deterministic simulation of the books: the real pure core and range rules over models of all the rest."""
