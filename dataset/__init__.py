"""Files on disk in, samples out. Imports nothing of the project but itself."""
