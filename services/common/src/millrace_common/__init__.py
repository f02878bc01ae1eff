"""What every Millrace stream processor shares; no business rule lives here."""
