"""Measurements on real servers with default durability, beside bare psycopg in the same run."""
