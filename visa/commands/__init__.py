"""What the root scripts do: one module per command, each with `main(arguments) -> exit code`."""
