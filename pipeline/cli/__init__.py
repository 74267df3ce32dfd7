"""The command line: the composition root. Each module adds its commands to the program."""
