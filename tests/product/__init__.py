"""The whole product as a user has it: real processes, HTTP, and the command line."""
