"""The only place that knows SQL: schema, statements, and the typed calls that carry them."""
