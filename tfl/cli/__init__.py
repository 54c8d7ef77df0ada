"""The command line: commands, terminal, exit codes."""
