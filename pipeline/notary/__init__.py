"""The notary: what the journal says, hashed row by row, signed day by day, and provable to anyone (docs/statements.md)."""
