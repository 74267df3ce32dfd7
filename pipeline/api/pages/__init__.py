"""Pages for people: HTML around the JSON API, with scripts and styles of our own."""
