"""Who somebody is in FHIR, by one rule"""

from alembic import op

revision = "0013"
down_revision = "0011"

# The order of `access.accounts`: who has a RelatedPerson has a Patient too, whose record that opens.
_RULE = """
CREATE FUNCTION account_fhir_user(practitioner text, related_person text, patient text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce('Practitioner/' || practitioner, 'RelatedPerson/' || related_person, 'Patient/' || patient)
$$
"""


def upgrade() -> None:
    op.execute(_RULE)
    # The triggers as 0006 made them, but for this.
    connection = op.get_bind()
    for function, row in (("audit_session", "owner"), ("audit_account", "NEW")):
        [made] = connection.exec_driver_sql(f"SELECT pg_get_functiondef('{function}'::regproc)").scalars()
        before = f"coalesce('Practitioner/' || {row}.practitioner, 'Patient/' || {row}.patient, 'RelatedPerson/' || {row}.related_person)"
        if before not in made:
            raise RuntimeError(f"{function} is not as it was made")
        op.execute(made.replace(before, f"account_fhir_user({row}.practitioner, {row}.related_person, {row}.patient)"))
