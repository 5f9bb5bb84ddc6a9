"""Files and counts that ingest leaves."""
