"""What is compared: perdure, bare psycopg, and the peers that are installed, each behind the same methods."""
