"""Scripts that made the shipped weights from public files of other formats."""
