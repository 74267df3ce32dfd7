"""The Grafana board without Grafana: its panels' queries, a real Prometheus to ask, and pictures of what they return."""
