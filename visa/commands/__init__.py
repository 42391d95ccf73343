"""What the commands do once their command line is read."""
