"""A whole Kubernetes of real parts on one Linux machine, without Docker: docs/cluster.md."""
