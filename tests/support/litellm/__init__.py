"""The LiteLLM proxy and a provider for it, as processes."""
