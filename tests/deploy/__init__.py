"""The deployment files: what can be checked of them without running a container."""
