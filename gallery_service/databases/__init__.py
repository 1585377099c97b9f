"""Where rows are kept: in a SQLite file of the folder they belong to, or in a schema of a PostgreSQL server."""
