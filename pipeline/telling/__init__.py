"""What orgs are told by the clock and not by a request of theirs: the loops that find it and ask the accounts' owners to tell."""
