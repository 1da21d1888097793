"""A FHIR R4 server with a whole clinic inside."""
