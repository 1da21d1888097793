"""Patches as pure functions from a resource to the next one: JSON Patch and FHIRPath Patch."""
