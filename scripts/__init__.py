"""Scripts for users and maintainers."""
