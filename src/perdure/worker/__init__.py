"""The worker: loops that claim, run, settle and rescue. `worker.Worker` puts them together."""
