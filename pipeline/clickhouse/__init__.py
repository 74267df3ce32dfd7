"""The only door to SQL: the client, the migrations, and the queries of `sql/queries/`."""
