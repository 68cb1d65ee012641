"""Measurements of zcpt; ``results`` holds what they came to."""
