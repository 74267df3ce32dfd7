"""The Helm chart rendered, and what its operators say of it."""
