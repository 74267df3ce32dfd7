"""The Helm chart, rendered by helm: `make helm`."""
