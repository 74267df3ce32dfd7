"""What an operator runs: proofs that the books are right, and repairs."""
