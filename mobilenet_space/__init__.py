"""Chain spaces: NAS-Bench-Macro and a ProxylessNAS-like space."""
