"""Arrow schemas of all tables that the stages write: column names and types, units and meanings as field metadata."""
