"""What the tests stand on: real servers and real processes. No mocks live here."""
