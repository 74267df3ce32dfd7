"""The gateway library inside the real LiteLLM proxy."""
