"""The rules of perdure, pure: no I/O, no clock, no randomness, no asyncio; of perdure they import only its errors."""
