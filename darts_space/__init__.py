"""Cell spaces: DARTS and NAS-Bench-201."""
