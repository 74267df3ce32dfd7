"""The sink: carries the journal into ClickHouse, each row once."""
