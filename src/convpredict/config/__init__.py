"""Typed, frozen configuration read from YAML; an unknown key is an error."""
