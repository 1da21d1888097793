"""GraphQL over the record: graphql-core reads the query, the specification's elements and search parameters say what it means.

https://hl7.org/fhir/R4/graphql.html
"""

from .operation import graphql

__all__ = ["graphql"]
